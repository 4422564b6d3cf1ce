"""From an admitted request to Ŷ and its trust: samples, σ, and what is done beside them.

σ becomes mask and trust levels strip by strip. While it does, these become files, and so does the
picture where it is a PNG.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.encode import Attached, Pages, enlarged_metadata
from trustscale_server.images.marked import write_marked
from trustscale_server.images.marks import Mark
from trustscale_server.images.png import to_png
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.platform.tasks import beside, shielded
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.sampling.draw import TimeLimits
from trustscale_server.sampling.measure import Measurement, MeasurementSink, measure, predict
from trustscale_server.sampling.sigma.added_score import Added
from trustscale_server.sampling.throughput import ANSWERS
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.choose import ServiceContext
from trustscale_server.serving.document import UNMASKED_TEXT, ReadWord
from trustscale_server.serving.left_out import LeftOut, faces_of, text_of
from trustscale_server.serving.pictures import FallbackLayer, believed_of
from trustscale_server.serving.promise import guarantee
from trustscale_server.serving.trust import Trust, enlarged_alpha, reduced_answer
from trustscale_server.stores.spool import spooled
from trustscale_server.upscalers.base import RGB, Source


@dataclass(frozen=True, slots=True)
class Masked:
    """Ŷ, [H, W, 3], or 4 if the upload is transparent, and its trust.

    trust: None: no mask is wanted. file: of the picture, if it was written beside σ. words: those
    that were read; None: none were asked for.
    """

    admitted: Admitted
    picture: Pixels
    trust: Trust | None
    rest: FallbackLayer | None
    mean_log_sigma: float
    timings_ms: Mapping[str, float]
    file: IO[bytes] | None
    words: list[ReadWord] | None
    left_out: list[LeftOut]
    added: Added | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generated:
    """Ŷ as it was made, of the whole size, and what was found; fields as in `Masked`."""

    picture: Pixels
    took_ms: dict[str, float]
    trust: Trust | None = None
    rest: FallbackLayer | None = None
    mean_log_sigma: float = math.nan
    file: IO[bytes] | None = None
    words: list[ReadWord] | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    added: Added | None = None


async def generate(
    context: ServiceContext,
    admitted: Admitted,
    timings_ms: Mapping[str, float],
    sink: MeasurementSink,
) -> Masked:
    """Make Ŷ and its trust from M samples, or Ŷ from one; the sink gets what comes before.

    timings_ms: milliseconds by what was done before.

    Raises UpscalerError, DegenerateSamples, StoreUnavailable: the disk is full.
    """
    image = admitted.decoded.image
    source = Source(image.rgb, admitted.decoded.features, admitted.decoded.enlarged)
    height, width = (side * admitted.chosen.pipeline.scale for side in admitted.size)
    alpha = await shielded(enlarged_alpha, image.alpha, height, width)
    if admitted.mask is None:
        generated = await _unmasked(admitted, source, sink)
    else:
        trust = Trust.empty(admitted.mask, alpha, height, width)
        generated = await _MaskedGeneration(context, admitted, source, trust).run(sink)
    _note_throughput(context, admitted, generated.took_ms)
    return await _finished(admitted, generated, alpha, {**timings_ms, **generated.took_ms})


async def _unmasked(admitted: Admitted, source: Source, sink: MeasurementSink) -> _Generated:
    """Make Ŷ of one sample."""
    upscaler, limits = admitted.chosen.upscaler, TimeLimits.within(admitted.deadline_s)
    took_ms = dict[str, float]()
    with clocked(took_ms, "samples"):
        picture = await predict(upscaler, source, admitted.seed, sink=sink, limits=limits)
    return _Generated(picture=picture, took_ms=took_ms)


class _SideTasks(NamedTuple):
    """What goes on beside the samples: the upload as a PNG, and the picture's file."""

    upload: asyncio.Task[bytes]
    picture: asyncio.Task[IO[bytes]]


@dataclass(slots=True)
class _MaskedGeneration:
    """Ŷ with its trust: faces are left out, samples are measured beside files, text is left out."""

    context: ServiceContext
    admitted: Admitted
    source: Source
    trust: Trust
    prediction: asyncio.Future[Pixels] = field(init=False)
    found_ms: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.prediction = asyncio.get_running_loop().create_future()

    async def run(self, sink: MeasurementSink) -> _Generated:
        """Take the steps in order."""
        chosen = self.admitted.chosen
        left_out = await self._without_faces()
        async with self._side_tasks() as tasks:
            try:
                measured = await self._measured(sink)
                # Before the picture is reduced: of fewer words another share may be wrong.
                words = None if measured.page is None else self.trust.words(measured.page)
                left_out += await self._without_text(measured.prediction)
                data = await tasks.upload
                with clocked(measured.timings_ms, "encode"):
                    file = await tasks.picture if self.prediction.done() else None
            finally:
                del tasks  # as `beside` asks
        blurs, is_sent = chosen.pipeline.fidelity.spec.blurs, chosen.request.believed
        return _Generated(
            picture=measured.prediction,
            took_ms=measured.timings_ms | self.found_ms,
            trust=self.trust,
            rest=FallbackLayer(believed_of(blurs=blurs, is_sent=is_sent), data),
            mean_log_sigma=measured.mean_log_sigma,
            file=file,
            words=words,
            left_out=left_out,
            added=measured.added,
        )

    @asynccontextmanager
    async def _side_tasks(self) -> AsyncIterator[_SideTasks]:
        """Make files while samples and σ are being made."""
        upload = shielded(to_png, to_8_bit(self.admitted.decoded.image.rgb))
        async with beside(upload) as beside_samples, beside(self._picture()) as beside_sigma:
            tasks = _SideTasks(beside_samples, beside_sigma)
            del beside_samples, beside_sigma  # as `beside` asks
            try:
                yield tasks
            finally:
                del tasks

    async def _picture(self) -> IO[bytes]:
        return await shielded(picture_file, self.admitted, self.trust, await self.prediction, None)

    async def _measured(self, sink: MeasurementSink) -> Measurement:
        prediction = self.prediction if _is_final(self.admitted) else None
        return await measure(
            self.admitted.chosen.upscaler,
            self.source,
            self.admitted.chosen.pipeline,
            self.admitted.seed,
            sink=_ServingSink(sink, self.trust, prediction),
            limits=TimeLimits.within(self.admitted.deadline_s),
        )

    async def _without_faces(self) -> list[LeftOut]:
        """Leave the faces of the upload out of the mask, before its first rows come."""
        find_faces = self.context.find_faces
        if not self.admitted.leaving.faces or find_faces is None:
            return []
        rgb, scale = self.admitted.decoded.image.rgb, self.admitted.chosen.pipeline.scale
        with clocked(self.found_ms, "faces"), span("faces"):
            faces = await shielded(faces_of, rgb, scale, find_faces)
        self.trust.leave_out(faces)
        return faces

    async def _without_text(self, rgb: RGB) -> list[LeftOut]:
        """Leave text of Ŷ that is not called right out of the whole mask."""
        leaving, pipeline = self.admitted.leaving, self.admitted.chosen.pipeline
        find_lines = self.context.find_lines
        if not leaving.letters or find_lines is None:
            return []
        with clocked(self.found_ms, "letters"), span("letters"):
            text = await shielded(text_of, self.source, rgb, pipeline, find_lines, leaving.words)
        self.trust.leave_out(text)
        return text


def _note_throughput(
    context: ServiceContext, admitted: Admitted, took_ms: Mapping[str, float]
) -> None:
    upscaler, samples = admitted.chosen.upscaler, admitted.chosen.pipeline.samples
    pixels = math.prod(admitted.size)
    context.throughput.note(upscaler, pixels, samples, took_ms["samples"] / 1e3)
    # Others took their share of the time.
    seconds = sum(took_ms.values()) / 1e3 / max(context.slots.beside(upscaler.name), 1)
    context.throughput.note(upscaler, pixels, 1, seconds, ANSWERS)


async def _finished(
    admitted: Admitted,
    generated: _Generated,
    alpha: NDArray[np.uint8] | None,
    timings_ms: Mapping[str, float],
) -> Masked:
    """Add the alpha channel, and reduce the answer to the size that was asked for."""
    picture, trust = generated.picture, generated.trust
    words, left_out = generated.words, generated.left_out
    height, width = picture.shape[:2]
    if alpha is not None and picture.dtype == np.uint8:
        picture = await shielded(np.dstack, [picture, alpha])
    to = admitted.chosen.request.to
    if to is not None and to < max(height, width):
        picture, trust = await shielded(reduced_answer, picture, trust, to)
        scale = picture.shape[1] / width
        words = words and [word.enlarged(scale) for word in words]
        left_out = [place.enlarged(scale) for place in left_out]
    return Masked(
        admitted=admitted,
        picture=picture,
        trust=trust,
        rest=generated.rest,
        mean_log_sigma=generated.mean_log_sigma,
        timings_ms=timings_ms,
        file=generated.file,
        words=words,
        left_out=left_out,
        added=generated.added,
    )


@dataclass(slots=True)
class _ServingSink(MeasurementSink):
    """Begins with the answer while samples and σ are still being made, and passes the rest on.

    prediction: is set to Ŷ; None: the picture is written at the end.
    """

    rest: MeasurementSink
    trust: Trust
    prediction: asyncio.Future[Pixels] | None

    takes_sigma = True

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self.rest.on_progress(done, total, unit)

    def on_tile(self, sample: RGB, rows: slice, columns: slice) -> None:
        self.rest.on_tile(sample, rows, columns)

    def on_first(self, sample: RGB) -> None:
        self.rest.on_first(sample)

    def on_prediction(self, prediction: RGB) -> None:
        if self.prediction is not None:
            self.prediction.set_result(prediction)

    def on_sigma(self, top: int, rows: NDArray[np.float32]) -> None:
        self.trust.put(top, rows)


def _is_final(admitted: Admitted) -> bool:
    """Whether Ŷ, once it is there, is a picture that can be written strip by strip."""
    chosen, image = admitted.chosen, admitted.decoded.image
    is_whole = chosen.request.to is None and image.alpha is None and image.rgb.dtype == np.uint8
    return is_whole and chosen.form.name == "png"


def picture_file(
    admitted: Admitted, trust: Trust | None, picture: Pixels, pages: Pages | None
) -> IO[bytes]:
    """The file of the picture."""
    chosen, upload = admitted.chosen, admitted.decoded.image
    unmasked = {**UNMASKED_TEXT, "trustscale:fingerprint": chosen.pipeline.fingerprint}
    return spooled(
        write_marked,
        picture,
        chosen.form.name,
        _mark(admitted, picture.shape[1]),
        quality=chosen.form.quality,
        attached=Attached(
            text=trust.text if trust else unmasked,
            metadata=enlarged_metadata(upload.metadata, picture.shape[1] / admitted.size[1]),
            pages=pages,
            raster=upload.raster,
        ),
    )


def _mark(admitted: Admitted, width: int) -> Mark:
    """The mark of the picture; it is written before the share that is trusted is known."""
    chosen, mask = admitted.chosen, admitted.mask
    upload_height, upload_width = admitted.size
    mark = Mark(
        kind="picture",
        upscaler=chosen.upscaler.name,
        version=chosen.pipeline.fingerprint,
        scale=round(width / upload_width, 3),
        upload=(upload_width, upload_height),
        size=(0, 0),
    )
    if mask is None:
        return mark
    promise = guarantee(mask.applicable, mask.alpha)
    return replace(
        mark,
        calibration=mask.calibration.id,
        alpha=mask.alpha,
        about=promise.about,
        promise=promise.plain if promise.promised else "",
    )


@contextmanager
def clocked(timings_ms: dict[str, float], name: str) -> Iterator[None]:
    """Add the milliseconds of the block to those of this name."""
    started = time.perf_counter()
    yield
    timings_ms[name] = timings_ms.get(name, 0.0) + 1e3 * (time.perf_counter() - started)
