"""The images of one `trustscale upscale`: done ones are skipped, several others made at once."""

from __future__ import annotations

import asyncio
import errno
import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer

from app.cli.answers import Place, differences, look
from app.cli.bars import Bars, progress_bars
from app.cli.service import AWAY, refusals
from app.cli.sources import Source, storage_errors, targets
from app.errors import ConfigError, NotFound, TrustscaleError
from app.serving.options import UpscaleRequest
from app.serving.service import watcher
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
    figures += f"\n  calibrated on {record['guarantee']['calibrated_on']}"
    return "\n".join([f"{source}: {promise}{note}", figures, *warnings])
