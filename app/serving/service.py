"""Upscaling requests, for HTTP and for jobs: from uploaded bytes to a stored result.

    UpscaleRequest ──choose, decode_upload, settle, admit_upload──▶ Admitted    (prepare.py)
    Admitted ──generate──▶ Masked ──encode_answer──▶ Encoded ──sign, store──▶ answer      (here)

The second line runs in a slot (`AdmissionController`). What a step has used up is released with it,
and σ becomes mask and trust levels strip by strip. They become files meanwhile, and so
does the picture where it is a PNG.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import IO, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.calibration.guarantee import threshold_json
from trustscale_server.concurrency import beside, shielded
from trustscale_server.conformal.curve import CODE_STEPS, NEVER, SigmaCounts
from trustscale_server.conformal.fidelity import Pixels, to_8_bit
from trustscale_server.conformal.reader import box_of
from trustscale_server.images.drawings import OPAQUE
from trustscale_server.images.encode import (
    FORMS,
    Attached,
    Pages,
    enlarged_metadata,
    png_in_turns,
    to_png,
    write_picture,
    write_trust_cog,
)
from trustscale_server.images.resize import largest_within, resized, size_within
from trustscale_server.sampling.pipeline import (
    ANSWERS,
    MeasurementSink,
    TimeLimits,
    measure,
    predict,
)
from trustscale_server.serving.answer import (
    BELIEVED,
    INPUT,
    MASK,
    REST,
    TRUST,
    TRUST_COG,
    UNMASKED,
    FallbackLayer,
    Links,
    Picture,
    PictureLinks,
    ReadWord,
    Result,
    Unmasked,
    believed_of,
    guarantee,
    png_text,
    review_of,
    warnings_of,
    write_believed,
)
from trustscale_server.serving.credentials import UNSIGNED
from trustscale_server.serving.prepare import (
    Admitted,
    MaskRequest,
    ServiceContext,
    Upload,
    UpscaleRequest,
    admit_upload,
    choose,
    decode_upload,
    settle,
)
from trustscale_server.sigma.estimators import ReadPage
from trustscale_server.stores.base import Blob, Usage
from trustscale_server.stores.blobs import spooled, spooled_in_turns
from trustscale_server.stores.repositories import used_by
from trustscale_server.telemetry.signals import Metrics, span
from trustscale_server.upscalers.base import RGB, Source

# --- Mask and trust levels of one answer, filled strip by strip while σ is made, and their files.

_ROWS: Final = 64  # of a whole σ that are thresholded at once


@dataclass(slots=True)
class Trust:
    """Where Ŷ is trusted at α, bool [H, W], and the codes of α(p), uint16 [H, W].

    opaque: where the picture is wholly opaque, bool [H, W]; None: everywhere.
    sigma: of the opaque pixels, before any reduction.
    """

    request: MaskRequest
    mask: NDArray[np.bool_]
    codes: NDArray[np.uint16]
    opaque: NDArray[np.bool_] | None
    sigma: SigmaCounts = field(default_factory=SigmaCounts)
    counts: Lock = field(default_factory=Lock)
    begun: _Files | None = None

    @classmethod
    def of(
        cls, request: MaskRequest, alpha: NDArray[np.uint8] | None, height: int, width: int
    ) -> Self:
        """Make an empty one for `put` to fill."""
        size = height, width
        opaque = None if alpha is None else alpha == OPAQUE
        return cls(request, np.empty(size, np.bool_), np.empty(size, np.uint16), opaque)

    def put(self, top: int, sigma: NDArray[np.float32]) -> None:
        """Add the rows of σ from `top` on. Pixels that are not opaque are trusted at no α."""
        rows = slice(top, top + len(sigma))
        judged = sigma if self.opaque is None else sigma[self.opaque[rows]]
        with self.counts:
            self.sigma.add(judged)
        if self.opaque is not None:
            sigma[~self.opaque[rows]] = np.inf
        curve = self.request.subject.partition.curve
        self.mask[rows] = curve.mask(sigma, self.request.alpha)
        self.codes[rows] = curve.trust_code(sigma)
        if self.begun is not None:
            self.begun.add(rows.start, rows.stop)

    def words(self, page: ReadPage) -> list[ReadWord]:
        """Return the words that were read, and whether they are trusted."""
        bound, words = self.request.subject.partition.bound, []
        for word in page.words:
            place, inside = box_of(word.corners, self.mask.shape)
            code = int(self.codes[place][inside].max())
            words.append(
                ReadWord(
                    box=[(round(x, 1), round(y, 1)) for x, y in word.corners.tolist()],
                    text=word.text,
                    trusted=bool(self.mask[place][inside].all()),
                    trust_level=None if code == NEVER else code * bound / CODE_STEPS,
                )
            )
        return words

    @property
    def text(self) -> dict[str, str]:
        """What a file says about its origin."""
        request, subject = self.request, self.request.subject
        return png_text(
            request.calibration,
            subject.partition,
            request.alpha,
            subject.group,
            subject.input_class,
        )

    def begin(self) -> _Files:
        """Begin to write the files behind the rows of `put`."""
        self.begun = _Files({MASK: self.mask, TRUST: self.codes}, self.text)
        return self.begun

    def files(self) -> dict[str, IO[bytes]]:
        """Return the files by name, of all rows."""
        files = self.begun
        if files is None:
            files = self.begin()
            files.add(0, len(self.mask))
        return files.whole()

    @property
    def shares(self) -> tuple[float, float]:
        """The trusted share of the opaque pixels, and the opaque share of all."""
        pixels = self.mask.size
        opaque = pixels if self.opaque is None else int(np.count_nonzero(self.opaque))
        return int(np.count_nonzero(self.mask)) / max(1, opaque), opaque / pixels


class _Files:
    """PNG files of planes whose rows come from several threads, in almost any order.

    The thread that brings the next row of a file writes it, so none waits.
    """

    def __init__(self, planes: Mapping[str, NDArray[np.generic]], text: Mapping[str, str]) -> None:
        begun = {
            name: spooled_in_turns(png_in_turns, plane, text) for name, plane in planes.items()
        }
        self.made = {name: file for name, (file, _) in begun.items()}
        self._turns = [turns for _, turns in begun.values()]
        self._needed = [0] * len(begun)  # rows
        self._rows = 0  # that are there, from the top
        self._others: dict[int, int] = {}  # by their beginning, where they end
        self._adds, self._writes = Lock(), Lock()

    def add(self, top: int, bottom: int) -> None:
        """Rows are there. Raises StoreUnavailable: the disk is full."""
        with self._adds:
            self._others[top] = bottom
            while self._rows in self._others:
                self._rows = self._others.pop(self._rows)
        # Check again after each release: another thread may have found the lock held.
        while min(self._needed) <= self._rows and self._writes.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._writes.release()

    def whole(self) -> dict[str, IO[bytes]]:
        """The files by name. Raises RuntimeError: rows are missing."""
        if min(self._needed) < sys.maxsize:
            raise RuntimeError("rows of the mask or of the trust levels are missing")
        return self.made

    def _write(self) -> None:
        for place, turns in enumerate(self._turns):
            while self._needed[place] <= self._rows:
                self._needed[place] = next(turns, sys.maxsize)


def enlarged_alpha(
    alpha: NDArray[np.uint8] | None, height: int, width: int
) -> NDArray[np.uint8] | None:
    """Return the transparency of an upload at the size of the output."""
    if alpha is None:
        return None
    return np.asarray(Image.fromarray(alpha).resize((width, height), Image.Resampling.BICUBIC))


def reduced_answer(
    picture: Pixels, trust: Trust | None, longest: int
) -> tuple[Pixels, Trust | None]:
    """Reduce the picture to a longest side; a pixel is trusted as little as any it averages."""
    height, width, _ = picture.shape
    small = resized(picture, size_within((width, height), longest), Image.Resampling.BOX)
    if trust is None:
        return small, None
    height, width, _ = small.shape
    opaque = trust.opaque
    if opaque is not None:
        opaque = ~largest_within(~opaque, height, width)
    mask = ~largest_within(~trust.mask, height, width)
    codes = largest_within(trust.codes, height, width)
    return small, Trust(trust.request, mask, codes, opaque, trust.sigma)


# --- Upscaling requests, for HTTP and for jobs: from uploaded bytes to a stored result.

Timings = Mapping[str, float]
"""Milliseconds by what was done."""

# Fields of the answer that the credentials repeat.
_SIGNED: Final = {
    "id", "upscaler", "calibration", "group", "input_class", "alpha", "threshold",
    "trusted_fraction", "samples", "seed", "guarantee", "warnings",
}  # fmt: skip


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
    timings_ms: Timings
    file: IO[bytes] | None
    words: list[ReadWord] | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer: its document and its files by name, the picture first; see `spooled`."""

    admitted: Admitted
    picture: Picture
    files: Mapping[str, IO[bytes]]
    rest: FallbackLayer | None
    mean_log_sigma: float

    @property
    def result(self) -> Result | None:
        """The document of an answer with a mask; None without a mask."""
        return self.picture if isinstance(self.picture, Result) else None


async def generate(
    context: ServiceContext,
    admitted: Admitted,
    timings_ms: Timings,
    sink: MeasurementSink,
) -> Masked:
    """Make Ŷ and its trust from M samples, or Ŷ from one; the sink gets what comes before.

    Raises UpscalerError, DegenerateSamples, StoreUnavailable: the disk is full.
    """
    chosen, image = admitted.chosen, admitted.decoded.image
    source = Source(image.rgb, admitted.mask.facts if admitted.mask else None)
    mean_log_sigma = math.nan
    height, width = (side * chosen.pipeline.scale for side in admitted.size)
    alpha = await shielded(enlarged_alpha, image.alpha, height, width)
    trust = Trust.of(admitted.mask, alpha, height, width) if admitted.mask else None
    if trust is None:
        started = time.perf_counter()
        limits = TimeLimits.within(admitted.deadline_s)
        rgb = await predict(chosen.upscaler, source, admitted.seed, sink=sink, limits=limits)
        took = {"samples": 1e3 * (time.perf_counter() - started)}
        rest = file = words = None
    else:
        prediction: asyncio.Future[Pixels] = asyncio.get_running_loop().create_future()
        if chosen.request.to is None:
            trust.begin()

        async def picture() -> IO[bytes]:
            return await shielded(_image, admitted, trust, await prediction, None)

        upload = shielded(to_png, to_8_bit(image.rgb))
        serving = _ServingSink(sink, trust, prediction if _is_final(admitted) else None)
        async with beside(upload) as beside_samples, beside(picture()) as beside_sigma:
            try:
                measured = await measure(
                    chosen.upscaler,
                    source,
                    chosen.pipeline,
                    admitted.seed,
                    sink=serving,
                    limits=TimeLimits.within(admitted.deadline_s),
                )
                mean_log_sigma = measured.mean_log_sigma
                rgb, took = measured.prediction, measured.timings_ms
                # Before the picture is reduced: of fewer words another share may be wrong.
                words = None if measured.page is None else trust.words(measured.page)
                data = await beside_samples
                started = time.perf_counter()
                file = await beside_sigma if prediction.done() else None
                took["encode"] = 1e3 * (time.perf_counter() - started)
            finally:
                del beside_samples, beside_sigma  # as `beside` asks
        blurs, is_sent = chosen.pipeline.fidelity.row.blurs, chosen.request.believed
        rest = FallbackLayer(believed_of(blurs=blurs, is_sent=is_sent), data)
    pixels, samples = math.prod(admitted.size), chosen.pipeline.samples
    context.throughput.note(chosen.upscaler, pixels, samples, took["samples"] / 1e3)
    seconds = sum(took.values()) / 1e3 / max(context.slots.in_flight, 1)  # others took their share
    context.throughput.note(chosen.upscaler, pixels, 1, seconds, ANSWERS)
    if alpha is not None and not source.is_16_bit:
        rgb = await shielded(np.dstack, [rgb, alpha])
    if chosen.request.to is not None and chosen.request.to < max(height, width):
        rgb, trust = await shielded(reduced_answer, rgb, trust, chosen.request.to)
        words = words and [word.enlarged(rgb.shape[1] / width) for word in words]
    times = {**timings_ms, **took}
    return Masked(admitted, rgb, trust, rest, mean_log_sigma, times, file, words)


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


async def encode_answer(masked: Masked, result_id: str) -> Encoded:
    """Make the files of the answer and its document. Raises StoreUnavailable: the disk is full."""
    timings_ms = dict(masked.timings_ms)
    with _timed(timings_ms, "encode"), span("encode"):
        document, files = await shielded(_encoded, masked, result_id)
    document.timings_ms = timings_ms
    return Encoded(masked.admitted, document, files, masked.rest, masked.mean_log_sigma)


def _encoded(masked: Masked, result_id: str) -> tuple[Picture, dict[str, IO[bytes]]]:
    """The document beside the files, the picture's first."""
    chosen, trust = masked.admitted.chosen, masked.trust

    def image() -> IO[bytes]:
        pages = Pages(trust.mask, trust.codes) if trust else None
        return masked.file or _image(masked.admitted, trust, masked.picture, pages)

    jobs = [lambda: {chosen.form.file: image()}]
    if trust is not None:
        scale = masked.picture.shape[1] / masked.admitted.size[1]
        jobs.append(trust.files)
        if chosen.form.name == "cog.tiff":
            metadata = enlarged_metadata(masked.admitted.decoded.image.metadata, scale)
            jobs.append(
                lambda: {TRUST_COG: spooled(write_trust_cog, trust.codes, trust.text, metadata)}
            )
        if (rest := masked.rest) is not None and rest.believed.is_sent:
            visible = to_8_bit(masked.picture)
            jobs.append(
                lambda: {
                    BELIEVED: spooled(write_believed, visible, trust.mask, rest, trust.text, scale)
                }
            )
    with ThreadPoolExecutor(2, "trustscale-encode") as threads:
        begun = [threads.submit(job) for job in jobs]
        document = _document(masked, result_id)
        return document, {name: file for job in begun for name, file in job.result().items()}


def _image(
    admitted: Admitted, trust: Trust | None, picture: Pixels, pages: Pages | None
) -> IO[bytes]:
    """The file of the picture."""
    chosen, upload = admitted.chosen, admitted.decoded.image
    unmasked = {**UNMASKED, "trustscale:fingerprint": chosen.pipeline.fingerprint}
    return spooled(
        write_picture,
        picture,
        chosen.form.name,
        quality=chosen.form.quality,
        attached=Attached(
            text=trust.text if trust else unmasked,
            metadata=enlarged_metadata(upload.metadata, picture.shape[1] / admitted.size[1]),
            pages=pages,
            raster=upload.raster,
        ),
    )


async def sign(context: ServiceContext, encoded: Encoded) -> Encoded:
    """Add content credentials to the picture, where the operator has a certificate."""
    credentials, result = context.credentials, encoded.result
    chosen, parent = encoded.admitted.chosen, encoded.admitted.decoded.parent
    if credentials is None or result is None or parent is None or chosen.form.name in UNSIGNED:
        return encoded
    statement = result.model_dump(mode="json", include=_SIGNED)
    with _timed(result.timings_ms, "sign"), span("sign"):
        signed = await shielded(
            spooled,
            credentials.sign,
            encoded.files[chosen.form.file],
            FORMS[chosen.form.name].media_type,
            upload=parent,
            mask=encoded.files[MASK],
            promise={**statement, "fingerprint": chosen.pipeline.fingerprint},
        )
    return replace(encoded, files={**encoded.files, chosen.form.file: signed})


async def store(context: ServiceContext, encoded: Encoded) -> None:
    """Store the answer while its slot is held, since a slow store costs memory, too."""
    if context.results is None:
        return
    decoded = encoded.admitted.decoded
    with span("store"):
        document = encoded.picture.model_dump_json().encode()
        files: dict[str, Blob] = {**encoded.files, INPUT: decoded.digest.to_bytes(8, "little")}
        if encoded.rest is not None:
            files[REST] = encoded.rest.data
        keep_s = encoded.admitted.chosen.request.keep_s
        await context.results.put(encoded.picture.id, document, files, ttl_s=keep_s)


def _document(masked: Masked, result_id: str) -> Picture:
    admitted, chosen, trust = masked.admitted, masked.admitted.chosen, masked.trust
    height, width, _ = masked.picture.shape
    base = f"/v1/results/{result_id}"
    links = {"self": base, "image": f"{base}/{chosen.form.file}"}
    common = {
        "id": result_id,
        "upscaler": chosen.upscaler.name,
        "upscaler_reason": chosen.why,
        "scale": chosen.pipeline.scale,
        "width": width,
        "height": height,
        "reduced_from": _reduced_from(masked),
        "samples": chosen.pipeline.samples,
        "seed": admitted.seed,
        "prediction": chosen.pipeline.prediction,
        "format": chosen.form.name,
        "quality": chosen.form.quality,
        "raster": admitted.decoded.image.raster,
        "timings_ms": dict(masked.timings_ms),
    }
    if trust is None or masked.rest is None:
        return Unmasked(**common, warnings=list(admitted.warnings), links=PictureLinks(**links))
    alpha, subject = trust.request.alpha, trust.request.subject
    partition = subject.partition
    trusted, opaque = trust.shares
    typicality = partition.report.typicality(masked.mean_log_sigma, trust.request.facts)
    return Result(
        **common,
        calibration=trust.request.calibration.id,
        group=subject.group,
        input_class=subject.document,
        alpha=alpha,
        threshold=threshold_json(partition.curve.threshold(alpha)),
        trusted_fraction=trusted,
        opaque_fraction=opaque,
        guarantee=guarantee(subject, alpha, typicality),
        believed=masked.rest.believed,
        typicality=typicality,
        out_of_distribution=typicality <= partition.report.out_of_distribution,
        review=review_of(
            partition,
            trust.sigma.high(),
            is_covered=subject.is_covered,
            why_not=subject.why_not(typicality),
        ),
        warnings=warnings_of(
            subject,
            alpha,
            trusted=trusted,
            typicality=typicality,
            notes=list(admitted.warnings),
            lossless=chosen.upscaler.capabilities.lossless,
        ),
        words=masked.words,
        links=Links(
            **links,
            mask=f"{base}/{MASK}",
            trust=f"{base}/{TRUST}",
            overlay=f"{base}/overlay.png",
            believed=f"{base}/{BELIEVED}",
            trust_cog=f"{base}/{TRUST_COG}" if chosen.form.name == "cog.tiff" else None,
        ),
    )


def _reduced_from(masked: Masked) -> tuple[int, int] | None:
    """(width, height) of the picture before its reduction."""
    scale = masked.admitted.chosen.pipeline.scale
    height, width = (side * scale for side in masked.admitted.size)
    return None if masked.picture.shape[:2] == (height, width) else (width, height)


@contextmanager
def _timed(timings_ms: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings_ms[name] = timings_ms.get(name, 0.0) + 1e3 * (time.perf_counter() - started)


Observer = Callable[[Encoded], None]
"""Called with every answer that was stored; it returns at once, and raises nothing."""

watcher: ContextVar[MeasurementSink] = ContextVar("watcher", default=MeasurementSink())  # noqa: B039
"""What gets the progress of requests that this process makes in its context."""


@dataclass(slots=True)
class UpscaleService(ServiceContext):
    """Runs upscaling requests within bounded capacity; observers are notified of every answer."""

    observers: Sequence[Observer] = ()
    metrics: Metrics = field(default_factory=Metrics, kw_only=True)
    usage: Usage | None = field(default=None, kw_only=True)

    async def prepare(
        self,
        upload: Upload,
        request: UpscaleRequest,
        *,
        unbounded_wait: bool = False,
        as_job: bool = False,
    ) -> Admitted:
        """Check everything that can be checked without generating.

        Args:
            upload: the file, or a function that gives it once it may be decoded.
            request: the other fields.
            unbounded_wait: whether to wait for that however long the queue is.
            as_job: whether it has the deadline of a job.

        Raises:
            BadInput, NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, Overloaded.
        """
        chosen = await choose(self, request)
        decoded = await decode_upload(self, chosen, upload, unbounded_wait=unbounded_wait)
        chosen = await settle(self, chosen, decoded.facts, decoded.size)
        return await admit_upload(self, chosen, decoded, as_job=as_job)

    async def run(
        self,
        admitted: Admitted,
        *,
        result_id: str | None = None,
        unbounded_wait: bool = False,
        on_begin: Callable[[], None] = lambda: None,
        sink: MeasurementSink | None = None,
    ) -> Encoded:
        """Generate, mask and store.

        Args:
            admitted: from `prepare`.
            result_id: default: a fresh one.
            unbounded_wait: whether to wait for a slot however long the queue is.
            on_begin: called when it has its slot: from then on samples are paid for.
            sink: gets progress and the first sample; None: the `watcher` of the context.

        Raises:
            Overloaded, UpscalerError, DegenerateSamples; StoreUnavailable, before samples are
                made where the store takes no result.
        """
        arrived = time.perf_counter()
        key = admitted.chosen.request.key
        with span("upscale", admitted.facts), used_by(key, "upscale"):
            async with self.slots.slot(admitted.footprint, unbounded_wait=unbounded_wait):
                wait_s = time.perf_counter() - arrived
                self.metrics.observe("slot_wait_seconds", wait_s)
                if self.results is not None:
                    await self.results.check()
                on_begin()
                # Nested, so that each step's input is released when the step has ended.
                encoded = await encode_answer(
                    await generate(
                        self,
                        admitted,
                        {"wait": 1e3 * wait_s},
                        sink or watcher.get(),
                    ),
                    result_id or f"res-{secrets.token_urlsafe(15)}",
                )
                encoded = await sign(self, encoded)
                await store(self, encoded)
            if self.usage is not None:
                seconds = encoded.picture.timings_ms["samples"] / 1e3
                self.usage.answered(encoded.picture.upscaler, math.prod(admitted.size), seconds)
        self._count(encoded.picture)
        for observer in self.observers:
            observer(encoded)
        return encoded

    def _count(self, picture: Picture) -> None:
        seconds_per_sample = picture.timings_ms["samples"] / 1e3 / picture.samples
        self.metrics.observe("sample_seconds", seconds_per_sample, picture.upscaler)
        if isinstance(picture, Result):
            self.metrics.observe("trusted_fraction", picture.trusted_fraction, picture.upscaler)
            self.metrics.observe("typicality", picture.typicality, picture.upscaler)
            if picture.review is not None:
                outcome = "accepted" if picture.review.accept else "needs_look"
                self.metrics.count("reviews", picture.upscaler, outcome)
