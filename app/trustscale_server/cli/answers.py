"""The answers of `trustscale upscale` on the disk: which there are, to which request, and new ones.

An image's record, `NAME.result.json`, holds the answer, the request and the source file. It is
written first, so files beside it belong to it, and an answer is done when all its files exist.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from trustscale import Result
from trustscale_server.cli.review import move
from trustscale_server.cli.sources import InputFile, enlarged_of
from trustscale_server.serving.document import Result as Answer
from trustscale_server.serving.drawings import png_overlay
from trustscale_server.serving.file_names import MASK
from trustscale_server.stores.files import replace_file

_RECORD: Final = "result.json"
_TRUST: Final = "trust.png"

_ANSWER_FILE: Final = re.compile(
    r"(?P<stem>.+?)\.(image\.\w+(\.tiff)?|(mask|trust|overlay|believed|safe|added|card)\.png|trust\.cog\.tiff|result\.json)"
)
Extra = Literal["trust", "overlay"]
"""A file that is written only where it is asked for: it may be larger than the picture."""

AnswerState = Literal["new", "done", "other", "foreign"]


@dataclass(frozen=True, slots=True)
class AnswerFiles:
    """The files of one answer.

    stem: the common beginning of their names. existing: the names of those that exist. record: the
    content of the record; None: there is none. extras: what is written besides picture and mask.
    """

    stem: Path
    existing: frozenset[str]
    record: Mapping[str, Any] | None
    extras: frozenset[Extra] = frozenset()

    def state(self, identity: Mapping[str, Any]) -> AnswerState:
        """Return whether this answer is new, done, another request's, or foreign.

        other: an answer to another request. foreign: files without a record.
        """
        if not self.existing:
            return "new"
        if self.record is None:
            return "foreign"
        if request_differences(self.record, identity):
            return "other"
        return "done" if self._needed(identity) <= self._existing_parts else "new"

    @property
    def _existing_parts(self) -> set[str]:
        """The parts of the answer that exist, such as image and mask."""
        endings = (name.removeprefix(f"{self.stem.name}.") for name in self.existing)
        return {
            ending.rpartition(".")[0].removesuffix(".ome").removesuffix(".cog")
            for ending in endings
        }

    def _needed(self, identity: Mapping[str, Any]) -> set[str]:
        request = identity["request"]
        needed = {"image", "result"}
        if request["mask"] == "trust":
            needed |= {"mask", *self.extras}
            needed |= {name for name in ("believed", "safe", "card") if request.get(name)}
        if request["format"] == "cog.tiff" and request["mask"] == "trust":
            needed.add("trust")
        return needed

    def write(self, result: Result, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files and the record of an answer, and return the record."""
        # Removed first: an earlier mask could remain beside the new picture.
        for name in self.existing:
            self.stem.with_name(name).unlink(missing_ok=True)
        record = {**result.document, **identity}
        del record["links"]  # the files are the result
        text = json.dumps(record, indent=2, ensure_ascii=False)
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        # Bytes of a file name that are not UTF-8 are escaped.
        record_file = f"{text}\n".encode("utf-8", "backslashreplace")
        for ending, data in {_RECORD: record_file, **self._files(result)}.items():
            replace_file(self.stem.with_name(f"{self.stem.name}.{ending}"), data)
        return record

    def move_to(self, stem: Path) -> None:
        """Move the answer, its record last, so that an interrupted move makes it again."""
        endings = (name.removeprefix(f"{self.stem.name}.") for name in self.existing)
        move(self.stem, stem, sorted(endings, key=_RECORD.__eq__))

    def _files(self, result: Result) -> dict[str, bytes]:
        files = result.files
        chosen = {name: data for name, data in files.items() if name != _TRUST}
        if "trust" in self.extras and _TRUST in files:
            chosen[_TRUST] = files[_TRUST]
        if "overlay" in self.extras and MASK in files:
            answer = Answer.model_validate(result.document)
            picture = next(data for name, data in files.items() if name.startswith("image."))
            chosen["overlay.png"] = png_overlay(answer, picture, files[MASK])
        return chosen


def existing_answers(
    stems: Sequence[Path], extras: frozenset[Extra] = frozenset()
) -> list[AnswerFiles]:
    """Return the existing files of each answer, listing every folder once."""
    listed = {folder: _listed(folder) for folder in {stem.parent for stem in stems}}
    answers = []
    for stem in stems:
        names = listed[stem.parent].get(stem.name, frozenset())
        record = f"{stem.name}.{_RECORD}"
        recorded = _read(stem.with_name(record)) if record in names else None
        answers.append(AnswerFiles(stem, names, recorded, extras))
    return answers


def request_differences(record: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """Return how the recorded request differs from this one, as text."""
    if record.get("source") != identity["source"]:
        return ["of another file, or of this one before it was changed"]
    recorded, requested = record["request"], identity["request"]
    return [
        f"with {name} {_in_words(recorded.get(name))} and not {_in_words(value)}"
        for name, value in requested.items()
        if recorded.get(name) != value
    ]


def _in_words(value: Any) -> str:
    return "by default" if value is None else str(value)


def _listed(folder: Path) -> dict[str, frozenset[str]]:
    names_by_stem: dict[str, set[str]] = defaultdict(set)
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := _ANSWER_FILE.fullmatch(path.name):
            names_by_stem[match["stem"]].add(path.name)
    return {stem: frozenset(names) for stem, names in names_by_stem.items()}


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"request", "source"} <= record.keys() else None


def overwriting_in_words(answer: AnswerFiles, identity: Mapping[str, Any]) -> str:
    """Return what would be lost if this answer were written."""
    if answer.record is None:
        return f"{answer.stem.with_name(min(answer.existing))} would be lost"
    how = "; ".join(request_differences(answer.record, identity))
    return f"The answer {answer.stem}.* would be lost: it was made {how}"


def source_identity(source: InputFile, enlarged: Path | None) -> dict[str, Any]:
    """Return what identifies an image: size and time of its file, or the content of standard input.

    enlarged: what somebody made of it, or a folder of such files. Raises OSError.
    """
    name = str(source.place)
    if source.path is None:
        digest = hashlib.sha256(source.data).hexdigest()
        identity = {"name": name, "bytes": len(source.data), "sha256": digest}
    else:
        identity = _file_identity(name, source.path)
    if enlarged is not None:
        path = enlarged_of(source, enlarged)
        identity["enlarged"] = _file_identity(path.name, path)
    return identity


def _file_identity(name: str, path: Path) -> dict[str, Any]:
    stat = path.stat()
    modified = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat()
    return {"name": name, "bytes": stat.st_size, "modified": modified}
