"""From an admitted request to Ŷ and its trust: samples, σ, and what is left out of the mask.

σ becomes mask and trust levels strip by strip, while it is made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.lab import Pixels
from trustscale_server.pixels.resize import resized, size_within
from trustscale_server.platform.tasks import shielded
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.sampling.draw import TimeLimits
from trustscale_server.sampling.measure import MeasurementSink, measure, predict
from trustscale_server.sampling.sigma.added_score import Added
from trustscale_server.sampling.throughput import ANSWERS
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.document import ReadWord
from trustscale_server.serving.left_out import LeftOut, faces_of
from trustscale_server.serving.trust import Trust
from trustscale_server.serving.unread_text import text_of
from trustscale_server.upscalers.base import RGB, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Ŷ, [H, W, 3], or 4 if the upload is transparent, and its trust.

    trust: None: no mask is wanted. words: what was read; None: nothing was to be read.
    """

    admitted: Admitted
    picture: Pixels
    timings_ms: Mapping[str, float]
    trust: Trust | None = None
    words: list[ReadWord] | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    added: Added | None = None

    @property
    def scale(self) -> float:
        """How many times as wide as the upload the picture is, perhaps after a reduction."""
        width: int = self.picture.shape[1]
        return width / self.admitted.shape[1]


async def generate(
    context: ServiceContext,
    admitted: Admitted,
    timings_ms: Mapping[str, float],
    sink: MeasurementSink,
) -> Generated:
    """Make Ŷ and its trust from M samples, or Ŷ from one; the sink gets what comes before.

    timings_ms: milliseconds by what was done before.

    Raises UpscalerError, DegenerateSamples.
    """
    image = admitted.decoded.image
    source = Source(image.rgb, admitted.decoded.features, admitted.decoded.enlarged)
    height, width = (side * admitted.chosen.pipeline.scale for side in admitted.shape)
    alpha = None
    if image.alpha is not None:
        alpha = await shielded(_enlarged, image.alpha, (width, height))
    if admitted.mask is None:
        generated = await _unmasked(admitted, source, sink)
    else:
        trust = Trust.empty(admitted.mask, alpha, height, width)
        generated = await _masked(admitted, source, trust, sink)
    _note_throughput(context, admitted, generated.timings_ms)
    generated = replace(generated, timings_ms={**timings_ms, **generated.timings_ms})
    return await shielded(_finished, generated, alpha)


async def _unmasked(admitted: Admitted, source: Source, sink: MeasurementSink) -> Generated:
    """Make Ŷ of one sample."""
    upscaler, limits = admitted.chosen.upscaler, TimeLimits.within(admitted.deadline_s)
    timings_ms = dict[str, float]()
    with clocked(timings_ms, "samples"):
        picture = await predict(upscaler, source, admitted.seed, sink=sink, limits=limits)
    return Generated(admitted=admitted, picture=picture, timings_ms=timings_ms)


async def _masked(
    admitted: Admitted, source: Source, trust: Trust, sink: MeasurementSink
) -> Generated:
    """Make Ŷ with its trust; faces are left out before the first rows of σ come, text after."""
    looked_for, pipeline = admitted.looked_for, admitted.chosen.pipeline
    left_out, found_ms = list[LeftOut](), dict[str, float]()
    if looked_for.find_faces is not None:
        with clocked(found_ms, "faces"), span("faces"):
            left_out = await shielded(faces_of, source.rgb, pipeline.scale, looked_for.find_faces)
        trust.leave_out(left_out)
    measured = await measure(
        admitted.chosen.upscaler,
        source,
        pipeline,
        admitted.seed,
        sink=_ServingSink(sink, trust),
        limits=TimeLimits.within(admitted.deadline_s),
    )
    # Before the picture is reduced: of fewer words another share may be wrong.
    words = None if measured.page is None else trust.words(measured.page)
    if looked_for.find_lines is not None:
        with clocked(found_ms, "letters"), span("letters"):
            text = await shielded(
                text_of,
                source,
                measured.prediction,
                pipeline,
                looked_for.find_lines,
                looked_for.words,
            )
        trust.leave_out(text)
        left_out += text
    return Generated(
        admitted=admitted,
        picture=measured.prediction,
        timings_ms=measured.timings_ms | found_ms,
        trust=trust,
        words=words,
        left_out=left_out,
        added=measured.added,
    )


@dataclass(slots=True)
class _ServingSink(MeasurementSink):
    """Makes trust of the rows of σ, and passes the rest on."""

    rest: MeasurementSink
    trust: Trust

    takes_sigma = True

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self.rest.on_progress(done, total, unit)

    def on_tile(self, sample: RGB, rows: slice, columns: slice) -> None:
        self.rest.on_tile(sample, rows, columns)

    def on_first(self, sample: RGB) -> None:
        self.rest.on_first(sample)

    def on_sigma(self, top: int, rows: NDArray[np.float32]) -> None:
        self.trust.put(top, rows)


def _note_throughput(
    context: ServiceContext, admitted: Admitted, took_ms: Mapping[str, float]
) -> None:
    upscaler, samples = admitted.chosen.upscaler, admitted.chosen.pipeline.samples
    pixels = math.prod(admitted.shape)
    context.throughput.note(upscaler, pixels, samples, took_ms["samples"] / 1e3)
    # Others took their share of the time.
    seconds = sum(took_ms.values()) / 1e3 / max(context.slots.slots_held(upscaler.name), 1)
    context.throughput.note(upscaler, pixels, 1, seconds, ANSWERS)


def _enlarged(alpha: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The transparency of an upload at this width and height."""
    return np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BICUBIC))


def _finished(generated: Generated, alpha: NDArray[np.uint8] | None) -> Generated:
    """Add the alpha channel, and reduce the answer to the size that was asked for."""
    picture = generated.picture
    if alpha is not None and picture.dtype == np.uint8:
        picture = np.dstack([picture, alpha])
    height, width = picture.shape[:2]
    to = generated.admitted.chosen.request.to
    if to is None or to >= max(height, width):
        return replace(generated, picture=picture)
    small = resized(picture, size_within((width, height), to), Image.Resampling.BOX)
    small_height, small_width, _ = small.shape
    scale = small_width / width
    return replace(
        generated,
        picture=small,
        trust=generated.trust and generated.trust.reduced(small_height, small_width),
        words=generated.words and [word.enlarged(scale) for word in generated.words],
        left_out=[place.enlarged(scale) for place in generated.left_out],
    )


@contextmanager
def clocked(timings_ms: dict[str, float], name: str) -> Iterator[None]:
    """Add the milliseconds that the block takes to the entry of this name."""
    started = time.perf_counter()
    yield
    timings_ms[name] = timings_ms.get(name, 0.0) + 1e3 * (time.perf_counter() - started)
