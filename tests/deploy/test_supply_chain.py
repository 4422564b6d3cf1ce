"""What the images are made of: known, licensed, and written down in a form that tools read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.deploy.files import ROOT
from tests.deploy.test_dockerfile import LOCKS, requirements

# Licences under which a package may be part of an image, in the words of SPDX and of older
# metadata. None asks for more than a notice; MPL-2.0 only for changes of its own files.
ALLOWED = {
    "0BSD", "3-Clause BSD License", "Apache 2.0 License", "Apache Software License", "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception", "BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC License (ISCL)", "MIT", "MIT License", "MIT-0",
    "MIT-CMU", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "PSF-2.0",
    "Python Software Foundation License", "Zlib",
}  # fmt: skip

# Not installed where tests run: what the metadata of their wheels on PyPI says.
ELSEWHERE = {
    "aiobotocore": "Apache-2.0", "aioitertools": "MIT", "botocore": "Apache-2.0",
    "colorama": "BSD-3-Clause", "jmespath": "MIT", "s3fs": "BSD-3-Clause", "triton": "MIT",
}  # fmt: skip

# NVIDIA's libraries beside torch are no free software: who builds the worker's image accepts their
# terms. No other image has them.
NVIDIA = re.compile(r"(nvidia|cuda)-[a-z0-9-]+")


def licences(name: str) -> set[str]:
    """The licences that a package names; of several to choose from, all."""
    found = metadata.metadata(name)
    expression = found.get("License-Expression")
    classifiers = [
        classifier.rpartition(" :: ")[2]
        for classifier in found.get_all("Classifier") or []
        if classifier.startswith("License ::")
    ]
    if classifiers and not expression:
        return set(classifiers)
    stated = expression or (found.get("License") or "").split("\n")[0]
    return set(re.split(r" (?:AND|OR) ", stated))


@pytest.mark.parametrize("name", sorted({name for lock in LOCKS for name in requirements(lock)}))
def test_the_licence(name):
    """Every package of every image has a licence that allows to pass it on."""
    if NVIDIA.fullmatch(name):
        assert all(name not in requirements(lock) for lock in LOCKS if lock != "worker")
        return
    if name in ELSEWHERE:
        assert ELSEWHERE[name] in ALLOWED
        return
    try:
        found = licences(name)
    except metadata.PackageNotFoundError:
        if name in requirements("build"):  # makes the wheel, is in no image
            return
        pytest.fail(f"{name} is not installed: read its licence, and enter it in ELSEWHERE")
    assert found <= ALLOWED, found


def bill(lock: str, path: Path) -> str:
    """The bill of materials of a lock."""
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"),
            *(f"requirements/{lock}.lock", "--pyproject", "pyproject.toml", "--no-validate"),
            *("--mc-type", "application", "--output-reproducible", "--output-file", path),
        ],
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    return path.read_text("utf-8")


@pytest.mark.slow
def test_the_bill_of_materials(tmp_path):
    """It follows the schema, has every package with version and hashes, and can be made again."""
    text = bill("gateway", tmp_path / "1")
    assert bill("gateway", tmp_path / "2") == text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert document["metadata"]["component"]["name"] == "trustscale"
    assert str(ROOT) not in text
    found = {part["name"]: part for part in document["components"]}
    assert {name: part["version"] for name, part in found.items()} == requirements("gateway")
    for part in found.values():
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}"
        assert part["externalReferences"][0]["hashes"]
