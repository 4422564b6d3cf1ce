"""The images of one `trustscale upscale`: done ones are skipped, several others made at once."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer
from rich.filesize import decimal

from trustscale import AsyncTrustscale, Problem, Result
from trustscale_server.cli.answers import Extra, Place, existing_answers, loss_of, source_identity
from trustscale_server.cli.bars import Bars, progress_bars
from trustscale_server.cli.options import json_line, spoken
from trustscale_server.cli.report import details, first_of, line, skipped_in_words
from trustscale_server.cli.review import ACCEPTED, LOOK, Rule, decided, promises
from trustscale_server.cli.service import AWAY, refusals
from trustscale_server.cli.sources import InputFile, enlarged_of, targets
from trustscale_server.conformal.adapted import MIN_UPLOADS
from trustscale_server.images.decode import Limits, image_size
from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import ConfigError, TrustscaleError, duration
from trustscale_server.sampling.measure import MeasurementSink
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.service import watcher
from trustscale_server.upscalers.base import AUTO

RUN_MANIFEST: Final = "trustscale.manifest.json"

# Every other image would fail in the same way.
_FATAL_PROBLEMS: Final = {
    AWAY,
    "/problems/no-calibration",
    "/problems/calibration-mismatch",
    "/problems/upscaler-unavailable",
    "/problems/unauthorized",
    "/problems/forbidden",
}

_DESCRIBED: Final = 32  # pictures of a folder that describe it
_LONG_S, _LARGE, _4K = 60, 100e6, 3840  # what is said before, and its smaller choice
_BYTES_A_PIXEL: Final = 2  # of a PNG file of a photograph


@dataclass(slots=True)
class Run:
    """The images of one command, and their outcomes."""

    service: AsyncTrustscale
    server: str | None
    request: UpscaleRequest
    overwrite: bool
    as_json: bool
    manifest: Path | None = None  # of the request and its outcomes
    extras: frozenset[Extra] = frozenset()
    verbose: bool = False
    review: Rule | None = None
    enlarged: Path | None = None  # what somebody made of the image, or a folder of such files
    full_request: Mapping[str, Any] = field(default_factory=dict)
    served: Mapping[str, Any] = field(default_factory=dict)
    pace: float = 0.0  # seconds for a megapixel by the slowest that may answer; 0: unknown
    done: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    promises: Counter[str] = field(default_factory=Counter)
    warnings: dict[str, list[str]] = field(default_factory=dict)  # whose pictures have each
    skipped: int = 0  # that were done before
    passed: int = 0  # without a look
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""  # why the remaining images were not made
    left: int = 0

    async def to_stream(self, source: InputFile) -> None:
        """Return the picture to standard output, text to standard error."""
        self.full_request = await self._served()
        await asyncio.to_thread(self._foretell, [source])
        with progress_bars() as bars:
            result = await self._result(source, _Bar(bars, 1))
        sys.stdout.buffer.write(next(iter(result.files.values())))
        sys.stdout.buffer.flush()
        typer.echo(self._said(source, result.document), err=True)

    async def all(self, images: Sequence[InputFile], folder: Path, at_once: int) -> None:
        """Upscale what is not done, several at once.

        Raises:
            ConfigError: files would be lost.
            OSError: the folder cannot be made.
        """
        self.full_request = await self._served()
        todo = await asyncio.to_thread(self._plan, images, folder)
        await asyncio.to_thread(self._foretell, [task.source for task in todo])
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
        if self.review == "each" or (self.review and not self.left):
            await asyncio.to_thread(self._sort, images, folder, self.review)

    def _places(self, images: Sequence[InputFile], folder: Path) -> list[Place]:
        """Where each answer is or will be, before those that need no look are apart."""
        if self.review is None:
            return existing_answers(targets(images, folder), self.extras)
        waiting, sorted_out = (
            existing_answers(targets(images, folder / name), self.extras)
            for name in (LOOK, ACCEPTED)
        )
        return [
            other if waits.record is None and other.there else waits
            for waits, other in zip(waiting, sorted_out, strict=True)
        ]

    def _sort(self, images: Sequence[InputFile], folder: Path, rule: Rule) -> None:
        """Move every answer to where it belongs."""
        done = [k for k, source in enumerate(images) if str(source) in self.done]
        passes = decided([self.done[str(images[k])] for k in done], rule)
        self.passed = sum(passes)
        places = self._places(images, folder)
        stems = [targets(images, folder / name) for name in (LOOK, ACCEPTED)]
        for k, is_passed in zip(done, passes, strict=True):
            if places[k].stem != (stem := stems[is_passed][k]):
                places[k].moved(stem)

    async def adapt(self, images: Sequence[InputFile]) -> None:
        """Let the pictures that come adapt the masks of all; of many, some from all over.

        Raises:
            ConfigError: there are too few, or the service cannot describe them.
        """
        if len(images) < MIN_UPLOADS:
            raise ConfigError(f"--adapt needs at least {MIN_UPLOADS} pictures.")
        step = -(-len(images) // _DESCRIBED)
        data = [await asyncio.to_thread(_content, source) for source in images[::step]]
        with refusals(self.server):
            batch = await self.service.batch(data)
        self.request = self.request.model_copy(update={"batch": batch})

    def _foretell(self, sources: Sequence[InputFile]) -> None:
        """Print what a long or large run takes, with a smaller choice; nothing for others."""
        scale = self.served.get("scale") or 1
        seconds = size = longest = 0.0
        for source in sources:
            # What cannot be read fails in its turn.
            with suppress(TrustscaleError, OSError):
                width, height = image_size(_content(source), Limits())
                if (self.request.fit or math.inf) < max(width, height):
                    width, height = size_within((width, height), self.request.fit or 1)
                side = max(width, height)
                seconds += self.pace * width * height / 1e6
                wanted = self.request.to or (self.request.scale or scale) * side
                side_made = min(wanted, scale * side)
                files = 1 + len(self.extras)
                size += files * _BYTES_A_PIXEL * width * height * (side_made / side) ** 2
                longest = max(longest, side_made)
        if seconds < _LONG_S and size < _LARGE:
            return
        long = f"about {duration(seconds)} and " if self.pace else ""
        smaller = ". --to 4k writes less, --fit 1000 is faster" if longest > _4K else ""
        typer.echo(f"This takes {long}some {decimal(int(size))} of files{smaller}.", err=True)

    def _plan(self, images: Sequence[InputFile], folder: Path) -> list[_Task]:
        """The answers to make. Raises ConfigError: files would be lost."""
        places = self._places(images, folder)
        folder.mkdir(parents=True, exist_ok=True)
        todo, lost = [], []
        for source, place in zip(images, places, strict=True):
            try:
                identity = {
                    "request": self.full_request,
                    "source": source_identity(source, self.enlarged),
                }
            except OSError as error:
                self._fail(source, error)
                continue
            state = place.state(identity)
            if state == "done" and place.record is not None:
                self.skipped += 1
                self._report(source, place.record, " (kept)")
                continue
            if state in {"other", "foreign"}:
                lost.append(loss_of(place, identity))
            todo.append(_Task(source, place, identity))
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
            ConfigError: there is no such upscaler.
        """
        with refusals(self.server):
            rows = await self.service.upscalers(brief=True)
        meant = [row for row in rows if row["name"] == self.request.upscaler]
        if self.request.upscaler in {None, AUTO}:
            meant = [row for row in rows if row["default"]]
        if not meant:
            known = ", ".join(row["name"] for row in rows)
            raise ConfigError(f"There is no upscaler {self.request.upscaler!r}; there is {known}.")
        self.served = meant[0]
        self.pace = max(row["answer_seconds_per_megapixel"] or 0.0 for row in meant)
        active = " ".join(calibration["id"] for row in meant for calibration in row["calibrations"])
        return {
            **self._settled,
            "upscaler": meant[0]["name"] if len(meant) == 1 else AUTO,
            "calibration": (active or None) if self.request.mask == "trust" else None,
        }

    @property
    def _settled(self) -> dict[str, Any]:
        """The options that an answer depends on."""
        chosen = self.request.chosen()
        del chosen["without_promise"]
        return chosen

    async def _one(self, task: _Task, bar: _Bar) -> None:
        try:
            result = await self._result(task.source, bar)
        except (TrustscaleError, OSError) as error:
            self._fail(task.source, error)
            bar.show(task.source, 1, 1)
            return
        try:
            record = await asyncio.to_thread(task.place.write, result, task.identity)
        except OSError as error:  # it would go wrong for all
            where = error.filename or task.place.stem.parent
            self.stopped = f"{where} cannot be written: {error.strerror or error}."
        else:
            self._report(task.source, record)
            self.left -= 1
        bar.show(task.source, 1, 1)

    async def _result(self, source: InputFile, bar: _Bar) -> Result:
        data = await asyncio.to_thread(_content, source)
        options: dict[str, Any] = self.request.chosen()
        if self.enlarged is not None:
            options["enlarged"] = await asyncio.to_thread(
                enlarged_of(source, self.enlarged).read_bytes
            )
        key = self._key(data + options.get("enlarged", b""))
        watcher.set(_BarSink(bar, source))
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

    def _fail(self, source: InputFile, error: TrustscaleError | OSError) -> None:
        if isinstance(error, OSError):
            self.failed[str(source)] = error.strerror or str(error)
        elif error.members.get("type") in _FATAL_PROBLEMS:
            self.stopped = spoken(error.detail)
            return
        else:
            self.failed[str(source)] = spoken(error.detail)
        self.left -= 1

    def _report(self, source: InputFile, record: Mapping[str, Any], note: str = "") -> None:
        self.done[str(source)] = record
        if self.as_json:
            json_line(record)
        else:
            typer.echo(self._said(source, record, note))

    def _said(self, source: InputFile, record: Mapping[str, Any], note: str = "") -> str:
        """What is shown of a picture at once; what holds for many is shown at the end."""
        if self.verbose:
            return details(source, record, note)
        for warning in map(spoken, record["warnings"]):
            self.warnings.setdefault(warning, []).append(str(source))
        if record["mask"] == "trust" and record["guarantee"]["promised"]:
            promise, is_read = record["guarantee"], record.get("words") is not None
            # Whose letters they are is not seen in the pictures.
            such = f" Such pictures: {promise['calibrated_on']}" if is_read else ""
            if (added := record.get("added")) and added["promise"]:
                self.promises[added["promise"]] += 1
            self.promises[promise["plain"] + such] += 1
        return line(source, record, note)

    def _key(self, data: bytes) -> str:
        """The idempotency key of a file and settings, so a continued run pays nothing twice."""
        return hashlib.sha256(json.dumps(dict(self.full_request)).encode() + data).hexdigest()[:32]

    def write_manifest(self) -> None:
        """Write the settings of a folder's answers, and each image's outcome."""
        if self.manifest is None:
            return
        document = {
            "request": self.full_request,
            "done": {
                name: {
                    "promised": bool((record.get("guarantee") or {}).get("promised")),
                    "trusted_fraction": record.get("trusted_fraction"),
                    "warnings": record["warnings"],
                }
                for name, record in self.done.items()
            },
            "failed": self.failed,
            "left": self.left,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False)
        self.manifest.parent.mkdir(parents=True, exist_ok=True)
        self.manifest.write_text(f"{text}\n", "utf-8", "backslashreplace")

    def report(self, *, many: bool, skipped: Sequence[Path]) -> None:
        """Print promises, warnings, errors and counts; `skipped` files were no images."""
        if self.review is not None:
            self.promises.update(promises(self.done.values(), self.review))
        if not self.as_json:
            for text, count in self.promises.items():
                typer.echo(f"{text} ({count} pictures)" if count > 1 else text, err=True)
            for text, names in self.warnings.items():
                typer.echo(
                    f"warning: {text}{f' ({first_of(sorted(names))})' if many else ''}", err=True
                )
        for name, detail in self.failed.items():
            typer.echo(f"trustscale: {name}: {detail}", err=True)
        if self.stopped:
            rest = f" {self.left} images are not done; run the same command again to continue."
            typer.echo(f"trustscale: {self.stopped}{rest if many else ''}", err=True)
        if many:
            answered = len(self.done) - self.skipped
            counts = f"{answered} done, {self.skipped} kept, {len(self.failed)} failed"
            if self.review is not None:
                counts += f"; {self.passed} {ACCEPTED}, {len(self.done) - self.passed} to {LOOK}"
            typer.echo(counts + skipped_in_words(skipped), err=True)


class _Task(NamedTuple):
    """An image, its target, and its record besides the answer."""

    source: InputFile
    place: Place
    identity: Mapping[str, Any]


class _Bar:
    """One bar for all images; those in progress count by their share of samples or tiles.

    The bar of a single image counts its tiles.
    """

    def __init__(self, bars: Bars, total: int) -> None:
        self._bars, self._total = bars, total
        self._shares: dict[InputFile, float] = {}
        bars("upscaling", 0, total)

    def show(self, source: InputFile, done: int, total: int, unit: str = "") -> None:
        """Show the progress of an image in samples, or in tiles of these."""
        if self._total == 1 and unit == "tiles":
            self._bars("upscaling", done, total, unit=unit)
            return
        self._shares[source] = done / total
        self._bars("upscaling", sum(self._shares.values()), self._total)


def _content(source: InputFile) -> bytes:
    return source.data if source.path is None else source.path.read_bytes()


@dataclass(frozen=True, slots=True)
class _BarSink(MeasurementSink):
    """Shows the progress of one image in the bar of all."""

    bar: _Bar
    source: InputFile

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self.bar.show(self.source, done, total, unit)
