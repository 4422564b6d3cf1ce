"""Licences of what is passed on: which are allowed, and who has which.

    python -m deploy.licences sbom/*.cdx.json

writes those of the packages that are installed here into bills of materials.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

# In the words of SPDX and of older metadata. None asks for more than a notice; MPL-2.0 only for
# changes of its own files. NVIDIA's libraries beside torch are no free software: whoever builds an
# image of a worker with CUDA accepts their terms.
ALLOWED: Final = {
    "0BSD", "3-Clause BSD License", "Apache 2.0 License", "Apache Software License", "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception", "BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC License (ISCL)", "MIT", "MIT License", "MIT-0",
    "MIT-CMU", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "PSF-2.0",
    "Python Software Foundation License", "Zlib",
}  # fmt: skip


def licences_of(name: str) -> Iterator[str]:
    """The licences that a package names. Raises PackageNotFoundError."""
    found = metadata.metadata(name)
    expression = found.get("License-Expression")
    classifiers = [
        classifier.rpartition(" :: ")[2]
        for classifier in found.get_all("Classifier") or []
        if classifier.startswith("License ::")
    ]
    if classifiers and not expression:
        yield from classifiers
    elif stated := expression or (found.get("License") or "").partition("\n")[0]:
        yield from re.split(r" (?:AND|OR) ", stated)


def fill_in(path: Path) -> list[str]:
    """Write the licences into a bill of materials; returns the packages that have none there."""
    bill = json.loads(path.read_text("utf-8"))
    unseen = []
    for part in bill.get("components", []):
        try:
            stated = sorted(set(licences_of(part["name"])))
        except metadata.PackageNotFoundError:
            stated = []
        if stated:
            part["licenses"] = [{"license": {"name": name}} for name in stated]
        else:
            unseen.append(part["name"])
    path.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", "utf-8")
    return unseen


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        if missing := fill_in(file):
            print(f"{file.name}: no licence is known here of {', '.join(missing)}", file=sys.stderr)
