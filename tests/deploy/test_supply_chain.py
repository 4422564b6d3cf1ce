"""What the images are made of, written down in a form that tools read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.deploy.files import ROOT
from tests.deploy.test_dockerfile import requirements


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
