"""The images of one `trustscale upscale`: done ones are skipped, several others made at once."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer

from trustscale import AsyncTrustscale, Problem, Result
from trustscale_server.cli.answers import (
    AnswerFiles,
    Extra,
    existing_answers,
    overwriting_in_words,
    source_identity,
)
from trustscale_server.cli.bars import Bars, progress_bars
from trustscale_server.cli.choice import meant_upscalers
from trustscale_server.cli.forecast import forecast
from trustscale_server.cli.outcomes import Outcomes
from trustscale_server.cli.review import ACCEPTED, LOOK, Rule, decided
from trustscale_server.cli.service import refusals
from trustscale_server.cli.sources import InputFile, enlarged_of, targets
from trustscale_server.conformal.adapted import MIN_UPLOADS
from trustscale_server.platform.errors import ConfigError, TrustscaleError
from trustscale_server.sampling.measure import MeasurementSink
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.service import watcher
from trustscale_server.upscalers.base import AUTO

RUN_MANIFEST: Final = "trustscale.manifest.json"

_MAX_DESCRIBED: Final = 32  # pictures of a folder that describe it


async def adapted(
    service: AsyncTrustscale, request: UpscaleRequest, images: Sequence[InputFile]
) -> UpscaleRequest:
    """Return the request with a batch that describes the images, of many those at equal distances.

    Raises:
        ConfigError: there are too few.
        Problem: the service cannot describe them.
    """
    if len(images) < MIN_UPLOADS:
        raise ConfigError(f"--adapt needs at least {MIN_UPLOADS} pictures.")
    step = -(-len(images) // _MAX_DESCRIBED)
    data = [await asyncio.to_thread(source.content) for source in images[::step]]
    return request.model_copy(update={"batch": await service.batch(data)})


class ServedRequest(NamedTuple):
    """A request, and what answers it.

    record: the options that an answer depends on, with the upscaler and its active calibrations.
    scale: of the upscaler. pace: seconds for a megapixel by the slowest that may answer; 0: not
    known.
    """

    request: UpscaleRequest
    record: Mapping[str, Any]
    scale: int
    pace: float


async def served_request(service: AsyncTrustscale, request: UpscaleRequest) -> ServedRequest:
    """Return a request with what answers it now. Raises ConfigError: there is no such upscaler."""
    rows = await meant_upscalers(service, request.upscaler)
    options = request.chosen()
    del options["without_promise"]
    active = " ".join(calibration["id"] for row in rows for calibration in row["calibrations"])
    record = {
        **options,
        "upscaler": rows[0]["name"] if len(rows) == 1 else AUTO,
        "calibration": (active or None) if request.mask == "trust" else None,
    }
    pace = max(row["answer_seconds_per_megapixel"] or 0.0 for row in rows)
    return ServedRequest(request, record, rows[0].get("scale") or 1, pace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Makes the images of one command.

    server: for messages. extras: what is written besides picture and mask. review: how answers are
    sorted. enlarged: what somebody made of the image, or a folder of such files. manifest: the
    file of the request and its outcomes.
    """

    service: AsyncTrustscale
    server: str | None
    served: ServedRequest
    outcomes: Outcomes
    overwrite: bool = False
    extras: frozenset[Extra] = frozenset()
    review: Rule | None = None
    enlarged: Path | None = None
    manifest: Path | None = None

    async def to_stream(self, source: InputFile) -> None:
        """Return the picture to standard output, text to standard error."""
        await asyncio.to_thread(self._print_forecast, [source])
        with progress_bars() as bars:
            result = await self._result(source, _Bar(bars, 1))
        sys.stdout.buffer.write(next(iter(result.files.values())))
        sys.stdout.buffer.flush()
        typer.echo(self.outcomes.text(source, result.document), err=True)

    async def to_folder(self, images: Sequence[InputFile], folder: Path, at_once: int) -> None:
        """Upscale what is not done, several at once.

        Raises:
            ConfigError: files would be lost.
            OSError: the folder cannot be made.
        """
        todo = await asyncio.to_thread(self._plan, images, folder)
        await asyncio.to_thread(self._print_forecast, [task.source for task in todo])
        self.write_manifest()  # also for a run that will be killed
        waiting = iter(todo)
        with progress_bars() as bars:
            bar = _Bar(bars, len(todo))

            async def work() -> None:
                for task in waiting:
                    await self._make(task, bar)
                    if self.outcomes.stopped:
                        return

            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once, len(todo))):
                    group.create_task(work())
        if self.review == "each" or (self.review and not self.outcomes.left):
            await asyncio.to_thread(self._sort, images, folder, self.review)

    def write_manifest(self) -> None:
        """Write the settings of a folder's answers, and each image's outcome."""
        if self.manifest is None:
            return
        document = {"request": self.served.record, **self.outcomes.document()}
        text = json.dumps(document, indent=2, ensure_ascii=False)
        self.manifest.parent.mkdir(parents=True, exist_ok=True)
        self.manifest.write_text(f"{text}\n", "utf-8", "backslashreplace")

    def _print_forecast(self, sources: Sequence[InputFile]) -> None:
        sentence = forecast(
            sources,
            self.served.request,
            scale=self.served.scale,
            seconds_per_megapixel=self.served.pace,
            files=1 + len(self.extras),
        )
        if sentence is not None:
            typer.echo(sentence, err=True)

    def _answers(self, images: Sequence[InputFile], folder: Path) -> list[AnswerFiles]:
        """The files of each answer; of a sorted one where an earlier run has moved it."""
        if self.review is None:
            return existing_answers(targets(images, folder), self.extras)
        waiting, accepted = (
            existing_answers(targets(images, folder / name), self.extras)
            for name in (LOOK, ACCEPTED)
        )
        return [
            moved if answer.record is None and moved.existing else answer
            for answer, moved in zip(waiting, accepted, strict=True)
        ]

    def _sort(self, images: Sequence[InputFile], folder: Path, rule: Rule) -> None:
        """Move every answer to where it belongs."""
        records = self.outcomes.done
        done = [k for k, source in enumerate(images) if str(source) in records]
        passes = decided([records[str(images[k])] for k in done], rule)
        self.outcomes.accepted = sum(passes)
        answers = self._answers(images, folder)
        stems = [targets(images, folder / name) for name in (LOOK, ACCEPTED)]
        for k, is_accepted in zip(done, passes, strict=True):
            if answers[k].stem != (stem := stems[is_accepted][k]):
                answers[k].move_to(stem)

    def _plan(self, images: Sequence[InputFile], folder: Path) -> list[_Task]:
        """The answers to make. Raises ConfigError: files would be lost."""
        answers = self._answers(images, folder)
        folder.mkdir(parents=True, exist_ok=True)
        todo, lost = [], []
        for source, answer in zip(images, answers, strict=True):
            try:
                identity = {
                    "request": self.served.record,
                    "source": source_identity(source, self.enlarged),
                }
            except OSError as error:
                self.outcomes.fail(source, error)
                continue
            state = answer.state(identity)
            if state == "done" and answer.record is not None:
                self.outcomes.keep(source, answer.record)
                continue
            if state in {"other", "foreign"}:
                lost.append(overwriting_in_words(answer, identity))
            todo.append(_Task(source, answer, identity))
        if lost and not self.overwrite:
            others = f" So would the files of {len(lost) - 1} others." if len(lost) > 1 else ""
            raise ConfigError(
                f"{lost[0]}.{others} Choose another --out, or replace them with --overwrite."
            )
        self.outcomes.left = len(todo)
        return todo

    async def _make(self, task: _Task, bar: _Bar) -> None:
        try:
            result = await self._result(task.source, bar)
        except (TrustscaleError, OSError) as error:
            self.outcomes.fail(task.source, error)
            bar.show(task.source, 1, 1)
            return
        try:
            record = await asyncio.to_thread(task.answer.write, result, task.identity)
        except OSError as error:  # the others could not be written either
            where = error.filename or task.answer.stem.parent
            self.outcomes.stopped = f"{where} cannot be written: {error.strerror or error}."
        else:
            self.outcomes.add(task.source, record)
        bar.show(task.source, 1, 1)

    async def _result(self, source: InputFile, bar: _Bar) -> Result:
        data = await asyncio.to_thread(source.content)
        options: dict[str, Any] = self.served.request.chosen()
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
                # It takes too long for a request. No work was done; a job does it.
                if problem.members.get("prefer") != "respond-async":
                    raise
                job = await self.service.submit(data, idempotency_key=f"{key}-job", **options)
                result: Result = await job.wait(functools.partial(bar.show, source))
                return result

    def _key(self, data: bytes) -> str:
        """The idempotency key of a file and settings, so a continued run pays nothing twice."""
        settings = json.dumps(self.served.record).encode()
        return hashlib.sha256(settings + data).hexdigest()[:32]


class _Task(NamedTuple):
    """An image, the files of its answer, and what the record holds besides the answer."""

    source: InputFile
    answer: AnswerFiles
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


@dataclass(frozen=True, slots=True)
class _BarSink(MeasurementSink):
    """Shows the progress of one image in the bar of all."""

    bar: _Bar
    source: InputFile

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self.bar.show(self.source, done, total, unit)
