"""The images of one `trustscale upscale`: done ones are skipped, several others made at once.

An image's record, `NAME.result.json`, holds the answer, the request and the source file. It is
written first, so files beside it belong to it, and an answer is done when all its files exist.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import hashlib
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import typer

from app.cli.bars import Bars, progress_bars
from app.cli.service import AWAY, refusals
from app.cli.sources import Source, storage_errors, targets
from app.errors import ConfigError, NotFound, TrustscaleError
from app.serving.answer import MASK, png_overlay
from app.serving.choose import UpscaleRequest
from app.serving.service import watcher
from app.stores.files import replace_file
from app.upscalers.base import AUTO
from trustscale import AsyncTrustscale, Problem, Result

MANIFEST: Final = "trustscale.manifest.json"

# Every other image would fail in the same way.
FATAL_PROBLEMS: Final = {
    AWAY,
    "/problems/no-calibration",
    "/problems/calibration-mismatch",
    "/problems/upscaler-unavailable",
    "/problems/unauthorized",
    "/problems/forbidden",
}

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


@dataclass(slots=True)
class Run:
    """The images of one command, and their outcomes."""

    service: AsyncTrustscale
    server: str | None
    request: UpscaleRequest
    overwrite: bool
    as_json: bool
    manifest: Path | None = None  # of the request and its outcomes
    asked: Mapping[str, Any] = field(default_factory=dict)
    done: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""  # why the remaining images were not made
    left: int = 0

    async def to_stream(self, source: Source) -> None:
        """The picture to standard output, text to standard error."""
        self.asked = await self._served()
        with progress_bars() as bars:
            result = await self._result(source, _Bar(bars, 1))
        sys.stdout.buffer.write(next(iter(result.files.values())))
        sys.stdout.buffer.flush()
        typer.echo(_summary(source, result.document), err=True)

    async def all(self, images: Sequence[Source], folder: Path, at_once: int) -> None:
        """Upscale what is not done, several at once.

        Raises:
            ConfigError: files would be lost.
        """
        self.asked = await self._served()
        todo = await asyncio.to_thread(self._plan, images, targets(images, folder))
        self.write_manifest()  # also for a run that will be killed
        waiting = iter(todo)
        with progress_bars() as bars:
            bar = _Bar(bars, len(todo))

            async def work() -> None:
                for task in waiting:
                    await self._one(task, bar)
                    if self.stopped:
                        return

            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once, len(todo))):
                    group.create_task(work())

    def _plan(self, images: Sequence[Source], stems: Sequence[Path]) -> list[_Task]:
        """The answers to make. Raises ConfigError: files would be lost."""
        todo, lost = [], []
        for source, place in zip(images, look(stems), strict=True):
            try:
                asked = {"request": self.asked, "source": _facts(source)}
            except OSError as error:
                self._fail(source, error)
                continue
            state = place.state(asked)
            if state == "done" and place.record is not None:
                self.kept += 1
                self._report(source, place.record, " (kept)")
                continue
            if state in {"other", "foreign"}:
                lost.append(_lost(place, asked))
            todo.append(_Task(source, place, asked))
        if lost and not self.overwrite:
            others = f" So would the files of {len(lost) - 1} others." if len(lost) > 1 else ""
            raise ConfigError(
                f"{lost[0]}.{others} Choose another --out, or replace them with --overwrite."
            )
        self.left = len(todo)
        return todo

    async def _served(self) -> dict[str, Any]:
        """The request with its upscaler and that one's active calibrations.

        Raises:
            NotFound: there is no such upscaler.
        """
        with refusals(self.server):
            rows = await self.service.upscalers(brief=True)
        meant = [row for row in rows if row["name"] == self.request.upscaler]
        if self.request.upscaler in {None, AUTO}:
            meant = [row for row in rows if row["default"]]
        if not meant:
            known = ", ".join(row["name"] for row in rows)
            raise NotFound(f"There is no upscaler {self.request.upscaler!r}; there is {known}.")
        active = " ".join(one["id"] for row in meant for one in row["calibrations"])
        return {
            **self.request.chosen(),
            "upscaler": meant[0]["name"] if len(meant) == 1 else AUTO,
            "calibration": (active or None) if self.request.mask == "trust" else None,
        }

    async def _one(self, task: _Task, bar: _Bar) -> None:
        try:
            result = await self._result(task.source, bar)
            record = await asyncio.to_thread(task.place.write, result, task.asked)
        except (TrustscaleError, OSError) as error:
            self._fail(task.source, error)
        else:
            self._report(task.source, record)
            self.left -= 1
        bar.show(task.source, 1, 1)

    async def _result(self, source: Source, bar: _Bar) -> Result:
        data = await asyncio.to_thread(_content, source)
        options, key = self.request.chosen(), self._key(data)
        watcher.set(lambda done, total, _: bar.show(source, done, total))
        with refusals(self.server):
            try:
                return await self.service.upscale(data, idempotency_key=key, **options)
            except Problem as problem:
                # The server did no work, and would do it as a job.
                if problem.members.get("prefer") != "respond-async":
                    raise
                job = await self.service.submit(data, idempotency_key=f"{key}-job", **options)
                result: Result = await job.wait(functools.partial(bar.show, source))
                return result

    def _fail(self, source: Source, error: TrustscaleError | OSError) -> None:
        if isinstance(error, OSError):
            self.failed[str(source)] = _reason(error, source)
        elif error.members.get("type") in FATAL_PROBLEMS:
            self.stopped = error.detail
            return
        else:
            self.failed[str(source)] = error.detail
        self.left -= 1

    def _report(self, source: Source, record: Mapping[str, Any], note: str = "") -> None:
        self.done[str(source)] = record
        typer.echo(json.dumps(record) if self.as_json else _summary(source, record, note))

    def _key(self, data: bytes) -> str:
        """The idempotency key of a file and settings, so a continued run pays nothing twice."""
        return hashlib.sha256(json.dumps(dict(self.asked)).encode() + data).hexdigest()[:32]

    @storage_errors()
    def write_manifest(self) -> None:
        """Write the settings of a folder's answers, and each image's outcome."""
        if self.manifest is None:
            return
        facts = {
            "request": self.asked,
            "done": {
                name: {
                    "trusted_fraction": record["trusted_fraction"],
                    "warnings": record["warnings"],
                }
                for name, record in self.done.items()
            },
            "failed": self.failed,
            "left": self.left,
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        self.manifest.parent.mkdir(parents=True, exist_ok=True)
        self.manifest.write_text(f"{text}\n", "utf-8", "backslashreplace")

    def report(self, *, many: bool, skipped: int) -> None:
        """Print errors and counts; `skipped` files were no images."""
        for name, detail in self.failed.items():
            typer.echo(f"trustscale: {name}: {detail}", err=True)
        if self.stopped:
            rest = f" {self.left} images are not done; run the same command again to continue."
            typer.echo(f"trustscale: {self.stopped}{rest if many else ''}", err=True)
        if many:
            made = len(self.done) - self.kept
            counts = f"{made} done, {self.kept} kept, {len(self.failed)} failed"
            others = f", {skipped} skipped that are no images" if skipped else ""
            typer.echo(counts + others, err=True)


class _Task(NamedTuple):
    """An image, its target, and its record besides the answer."""

    source: Source
    place: Place
    asked: Mapping[str, Any]


class _Bar:
    """One bar for all images; those in progress count by their share of samples."""

    def __init__(self, bars: Bars, total: int) -> None:
        self._show = functools.partial(bars, "upscaling", total=total)
        self._show(0)
        self._shares: dict[Source, float] = {}

    def show(self, source: Source, done: int, total: int) -> None:
        """Show the progress of an image in samples."""
        self._shares[source] = done / total
        self._show(sum(self._shares.values()))


def _reason(error: OSError, source: Source) -> str:
    """Why a file cannot be used; of a missing one fsspec says only the name."""
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError) and str(source).endswith(reason):
        return os.strerror(errno.ENOENT)
    return reason


@storage_errors()
def _content(source: Source) -> bytes:
    return source.data if source.path is None else source.path.read_bytes()


@storage_errors()
def _facts(source: Source) -> dict[str, Any]:
    """What identifies a file: modification time, or else content."""
    stat = None if source.path is None else source.path.stat()
    if stat is not None and stat.st_mtime:
        modified = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat()
        return {"name": str(source.place), "bytes": stat.st_size, "modified": modified}
    data = _content(source)
    digest = hashlib.sha256(data).hexdigest()
    return {"name": str(source.place), "bytes": len(data), "sha256": digest}


def _lost(place: Place, asked: Mapping[str, Any]) -> str:
    if place.record is None:
        return f"{place.stem.with_name(min(place.there))} would be lost"
    how = "; ".join(differences(place.record, asked))
    return f"The answer {place.stem}.* would be lost: it was made {how}"


def _summary(source: Source, record: Mapping[str, Any], note: str = "") -> str:
    warnings = [f"  warning: {warning}" for warning in record["warnings"]]
    if record.get("chosen"):
        warnings.insert(0, f"  {record['chosen']}")
    if record["mask"] == "none":
        size = f"{record['width']}×{record['height']}, seed {record['seed']}"
        return "\n".join([f"{source}: {size}, without a mask{note}", *warnings])
    part = "the opaque part of " if record["opaque_fraction"] < 1 else ""
    figures = (
        f"  {record['trusted_fraction']:.1%} of {part}{record['width']}×{record['height']} trusted "
        f"at α = {record['alpha']:g} (typicality {record['typicality']:.2f}, seed {record['seed']})"
    )
    promise = record["guarantee"]["sentence"]
    figures += f"\n  calibrated on: {record['guarantee']['calibrated_on']}"
    return "\n".join([f"{source}: {promise}{note}", figures, *warnings])
