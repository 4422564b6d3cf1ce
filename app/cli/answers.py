"""The files of answers: which are done, which would be overwritten, and how one is written.

An image's record, `NAME.result.json`, holds the answer, the request and the source file. It is
written first, so files beside it belong to it, and an answer is done when all its files exist.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from app.cli.sources import storage_errors
from app.serving.answer import MASK, png_overlay
from app.stores.folders import replace_file
from trustscale import Result

RECORD: Final = "result.json"
OVERLAY: Final = "overlay.png"

_PART: Final = re.compile(
    r"(?P<stem>.+?)\.(image\.\w+(\.tiff)?|(mask|trust|overlay|believed)\.png|trust\.cog\.tiff|result\.json)"
)
_FILES_OF_AN_ANSWER: Final = {"trust": 5, "none": 2}

State = Literal["new", "done", "other", "foreign"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one answer is stored.

    stem: the common beginning of its files' names. there: names of existing files. record: None:
    none exists.
    """

    stem: Path
    there: frozenset[str]
    record: Mapping[str, Any] | None

    def state(self, asked: Mapping[str, Any]) -> State:
        """new: nothing or a part of this answer exists; done: all of it.

        other: an answer to another request. foreign: files without a record.
        """
        if not self.there:
            return "new"
        if self.record is None:
            return "foreign"
        if differences(self.record, asked):
            return "other"
        request = asked["request"]
        files = _FILES_OF_AN_ANSWER[request["mask"]] + request["believed"]
        if request["mask"] == "trust" and request["format"] == "cog.tiff":
            files += 1
        return "done" if len(self.there) == files else "new"

    @storage_errors()
    def write(self, result: Result, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record and the files; the record."""
        # Otherwise an earlier mask could remain beside the new picture.
        for name in self.there:
            self.stem.with_name(name).unlink(missing_ok=True)
        record = {**result.document, **asked}
        del record["links"]  # the files are the result
        text = json.dumps(record, indent=2, ensure_ascii=False)
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        # Bytes of a file name that are not UTF-8 are escaped.
        written = f"{text}\n".encode("utf-8", "backslashreplace")
        for part, data in {RECORD: written, **_complete(result.files)}.items():
            path = self.stem.with_name(f"{self.stem.name}.{part}")
            if isinstance(path, Path):
                replace_file(path, data)
            else:  # object stores put an object whole or not at all
                path.write_bytes(data)
        return record


def _complete(files: Mapping[str, bytes]) -> dict[str, bytes]:
    if MASK not in files:
        return dict(files)
    picture = next(data for name, data in files.items() if name.startswith("image."))
    return {**files, OVERLAY: png_overlay(picture, files[MASK])}


@storage_errors()
def look(stems: Sequence[Path]) -> list[Place]:
    """The existing files of each answer, listing every folder once."""
    listed = {folder: _listed(folder) for folder in {stem.parent for stem in stems}}
    places = []
    for stem in stems:
        names = listed[stem.parent].get(stem.name, frozenset())
        record = f"{stem.name}.{RECORD}"
        known = _read(stem.with_name(record)) if record in names else None
        places.append(Place(stem, names, known))
    return places


def differences(record: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """How the recorded request differs from this one, as text."""
    if record.get("source") != asked["source"]:
        return ["of another file, or of this one before it was changed"]
    then, now = record["request"], asked["request"]
    return [
        f"with {name} {_shown(then.get(name))} and not {_shown(value)}"
        for name, value in now.items()
        if then.get(name) != value
    ]


def _shown(value: Any) -> str:
    return "by default" if value is None else str(value)


def _listed(folder: Path) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := _PART.fullmatch(path.name):
            found[match["stem"]].add(path.name)
    return {stem: frozenset(names) for stem, names in found.items()}


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"request", "source"} <= record.keys() else None
