"""Upscaling requests, for HTTP and for jobs: from uploaded bytes to a stored result.

    UpscaleRequest ──choose, decode, settle, admit──▶ Admitted      (choose.py, prepare.py)
    Admitted ──generate──▶ Masked ──encode──▶ Encoded ──sign, store──▶ answer      (here)

The second line runs in a slot (`Slots`). What a step has used up is released with it, and σ
becomes mask and trust levels strip by strip.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import IO, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.calibration.guarantee import threshold_json
from app.conformal.lab import Pixels, shallow
from app.images.drawings import OPAQUE
from app.images.encode import FORMS, Pages, write_picture, write_png, write_trust_cog
from app.images.resize import largest_within, resized, size_within
from app.sampling.draw import OnProgress
from app.sampling.pipeline import OnFirst, measure, predict
from app.serving.answer import (
    BELIEVED,
    INPUT,
    MASK,
    REST,
    TRUST,
    TRUST_COG,
    UNMASKED,
    Links,
    Outside,
    Picture,
    PictureLinks,
    Rest,
    Result,
    Unmasked,
    believed_of,
    png_text,
    rest_of,
    write_believed,
)
from app.serving.choose import ServiceContext, UpscaleRequest, choose, settle
from app.serving.credentials import UNSIGNED
from app.serving.prepare import Admitted, Mask, Upload, admit, decode
from app.serving.promise import guarantee, warnings_of
from app.stores.base import Blob
from app.stores.files import spooled
from app.system import shielded
from app.telemetry.signals import Metrics, span
from app.upscalers.base import Source

_ROWS: Final = 64  # of a whole σ that are thresholded at once

Timings = Mapping[str, float]
"""Milliseconds by what was done."""

# Fields of the answer that the credentials repeat.
_SIGNED: Final = {
    "id", "upscaler", "calibration", "group", "input_class", "alpha", "threshold",
    "trusted_fraction", "samples", "seed", "guarantee", "warnings",
}  # fmt: skip


@dataclass(slots=True)
class Trust:
    """Where Ŷ is trusted at α, bool [H, W], and the codes of α(p), uint16 [H, W].

    opaque: where the picture is wholly opaque, bool [H, W]; None: everywhere.
    """

    wanted: Mask
    mask: NDArray[np.bool_]
    codes: NDArray[np.uint16]
    opaque: NDArray[np.bool_] | None

    @classmethod
    def of(cls, wanted: Mask, alpha: NDArray[np.uint8] | None, height: int, width: int) -> Self:
        """Empty, for `put` to fill."""
        size = height, width
        opaque = None if alpha is None else alpha == OPAQUE
        return cls(wanted, np.empty(size, np.bool_), np.empty(size, np.uint16), opaque)

    def score(self, mean_log_sigma: float, sigma: NDArray[np.float32]) -> None:
        """All of σ, where its mean decides which curve is used."""
        subject = self.wanted.subject.scored(mean_log_sigma)
        self.wanted = replace(self.wanted, subject=subject)
        for top in range(0, len(sigma), _ROWS):
            self.put(top, sigma[top : top + _ROWS])

    def put(self, top: int, sigma: NDArray[np.float32]) -> None:
        """Rows of σ from `top` on. Pixels that are not opaque are trusted at no α."""
        rows = slice(top, top + len(sigma))
        if self.opaque is not None:
            sigma[~self.opaque[rows]] = np.inf
        curve = self.wanted.subject.part.curve
        self.mask[rows] = curve.mask(sigma, self.wanted.alpha)
        self.codes[rows] = curve.trust_code(sigma)

    @property
    def shares(self) -> tuple[float, float]:
        """The trusted share of the opaque pixels, and the opaque share of all."""
        pixels = self.mask.size
        opaque = pixels if self.opaque is None else int(np.count_nonzero(self.opaque))
        return int(np.count_nonzero(self.mask)) / max(1, opaque), opaque / pixels


@dataclass(frozen=True, slots=True)
class Masked:
    """Ŷ, [H, W, 3], or 4 if the upload is transparent, and its trust.

    trust: None: no mask is wanted.
    """

    admitted: Admitted
    picture: Pixels
    trust: Trust | None
    rest: Rest | None
    mean_log_sigma: float
    timings_ms: Timings


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer: its document and its files by name, the picture first; see `spooled`."""

    admitted: Admitted
    picture: Picture
    files: Mapping[str, IO[bytes]]
    rest: Rest | None
    mean_log_sigma: float

    @property
    def result(self) -> Result | None:
        """The document of an answer with a mask; None: it has none."""
        return self.picture if isinstance(self.picture, Result) else None


async def generate(
    context: ServiceContext,
    admitted: Admitted,
    timings_ms: Timings,
    *,
    on_progress: OnProgress | None,
    on_first: OnFirst | None,
) -> Masked:
    """Ŷ and its trust from M samples, or Ŷ from one. Raises UpscalerError, DegenerateSamples."""
    chosen, image = admitted.chosen, admitted.decoded.image
    source = Source(image.rgb, admitted.mask.facts if admitted.mask else None)
    deadline, mean_log_sigma = admitted.deadline_s, math.nan
    height, width = (side * chosen.pipeline.scale for side in admitted.size)
    alpha = await shielded(_enlarged, image.alpha, height, width)
    trust = Trust.of(admitted.mask, alpha, height, width) if admitted.mask else None
    facts, rest = admitted.decoded.facts, None
    kept: list[tuple[Outside, bytes]] = []
    if trust is None:
        started = time.perf_counter()
        rgb = await predict(
            chosen.upscaler, source, chosen.seed, deadline=deadline, on_progress=on_progress
        )
        took = {"samples": 1e3 * (time.perf_counter() - started)}
    else:
        awaits_score = trust.wanted.subject.awaits_score
        measured = await measure(
            chosen.upscaler,
            source,
            chosen.pipeline,
            chosen.seed,
            deadline=deadline,
            on_progress=on_progress,
            on_first=on_first,
            on_sigma=None if awaits_score else trust.put,
            on_witness=lambda witness: kept.append(
                rest_of(shallow(image.rgb), facts, shallow(witness))
            ),
        )
        mean_log_sigma = measured.mean_log_sigma
        if awaits_score:
            await shielded(trust.score, mean_log_sigma, measured.sigma)
        rgb, took = measured.prediction, measured.timings_ms
        outside, data = (
            kept[0] if kept else await shielded(rest_of, shallow(image.rgb), facts, None)
        )
        blurs, is_sent = chosen.pipeline.fidelity.row.blurs, chosen.request.believed
        rest = Rest(believed_of(outside, blurs=blurs, is_sent=is_sent), data)
    pixels, samples = math.prod(admitted.size), chosen.pipeline.samples
    context.throughput.note(chosen.upscaler, pixels, samples, took["samples"] / 1e3)
    if alpha is not None and not source.is_deep:
        rgb = await shielded(np.dstack, [rgb, alpha])
    if chosen.request.to is not None and chosen.request.to < max(height, width):
        rgb, trust = await shielded(_reduced, rgb, trust, chosen.request.to)
    return Masked(admitted, rgb, trust, rest, mean_log_sigma, {**timings_ms, **took})


def _enlarged(alpha: NDArray[np.uint8] | None, height: int, width: int) -> NDArray[np.uint8] | None:
    """The transparency of an upload at the size of the output."""
    if alpha is None:
        return None
    resized = Image.fromarray(alpha).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _reduced(made: Pixels, trust: Trust | None, longest: int) -> tuple[Pixels, Trust | None]:
    """The picture with this longest side, each pixel as little trusted as any that it averages."""
    height, width, _ = made.shape
    small = resized(made, size_within((width, height), longest), Image.Resampling.BOX)
    if trust is None:
        return small, None
    height, width, _ = small.shape
    opaque = trust.opaque
    if opaque is not None:
        opaque = ~largest_within(~opaque, height, width)
    mask = ~largest_within(~trust.mask, height, width)
    codes = largest_within(trust.codes, height, width)
    return small, Trust(trust.wanted, mask, codes, opaque)


async def encode(masked: Masked, result_id: str) -> Encoded:
    """The files of the answer and its document. Raises StoreUnavailable: the disk is full."""
    timings_ms = dict(masked.timings_ms)
    with _timed(timings_ms, "encode"), span("encode"):
        files = await shielded(_files, masked)
    document = await shielded(_document, masked, result_id, timings_ms)
    return Encoded(masked.admitted, document, files, masked.rest, masked.mean_log_sigma)


def _files(masked: Masked) -> dict[str, IO[bytes]]:
    """The picture first; the others are made beside it."""
    chosen, trust = masked.admitted.chosen, masked.trust
    text = {**UNMASKED, "trustscale:fingerprint": chosen.pipeline.fingerprint}
    if trust is not None:
        wanted, subject = trust.wanted, trust.wanted.subject
        text = png_text(
            wanted.calibration, subject.part, wanted.alpha, subject.group, subject.input_class
        )

    upload = masked.admitted.decoded.image
    metadata = upload.metadata.enlarged(masked.picture.shape[1] / masked.admitted.size[1])

    def image() -> IO[bytes]:
        return spooled(
            write_picture,
            masked.picture,
            chosen.form.name,
            quality=chosen.form.quality,
            text=text,
            metadata=metadata,
            pages=Pages(trust.mask, trust.codes) if trust else None,
            raster=upload.raster,
        )

    if trust is None:
        return {chosen.form.file: image()}

    def others() -> dict[str, IO[bytes]]:
        made = {
            MASK: spooled(write_png, trust.mask, text),
            TRUST: spooled(write_png, trust.codes, text),
        }
        if chosen.form.name == "cog.tiff":
            made[TRUST_COG] = spooled(write_trust_cog, trust.codes, text, metadata)
        if masked.rest is not None and masked.rest.believed.is_sent:
            scale = masked.picture.shape[1] / masked.admitted.size[1]
            made[BELIEVED] = spooled(
                write_believed, shallow(masked.picture), trust.mask, masked.rest, text, scale
            )
        return made

    with ThreadPoolExecutor(1, "trustscale-encode") as beside:
        made = beside.submit(others)
        return {chosen.form.file: image(), **made.result()}


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
    """Keep the answer, within its slot: a slow store costs memory, too."""
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


def _document(masked: Masked, result_id: str, timings_ms: dict[str, float]) -> Picture:
    admitted, chosen, trust = masked.admitted, masked.admitted.chosen, masked.trust
    height, width, _ = masked.picture.shape
    base = f"/v1/results/{result_id}"
    links = {"self": base, "image": f"{base}/{chosen.form.file}"}
    common = {
        "id": result_id,
        "upscaler": chosen.upscaler.name,
        "chosen": chosen.why,
        "scale": chosen.pipeline.scale,
        "width": width,
        "height": height,
        "reduced_from": _reduced_from(masked),
        "samples": chosen.pipeline.samples,
        "seed": chosen.seed,
        "prediction": chosen.pipeline.prediction,
        "format": chosen.form.name,
        "quality": chosen.form.quality,
        "raster": admitted.decoded.image.raster,
        "timings_ms": timings_ms,
    }
    if trust is None or masked.rest is None:
        return Unmasked(**common, warnings=list(admitted.warnings), links=PictureLinks(**links))
    alpha, subject, part = trust.wanted.alpha, trust.wanted.subject, trust.wanted.subject.part
    trusted, opaque = trust.shares
    typicality = part.typicality(masked.mean_log_sigma, trust.wanted.facts)
    return Result(
        **common,
        calibration=trust.wanted.calibration.id,
        group=subject.group,
        input_class=subject.document,
        alpha=alpha,
        threshold=threshold_json(part.curve.threshold(alpha)),
        trusted_fraction=trusted,
        opaque_fraction=opaque,
        guarantee=guarantee(subject, alpha),
        believed=masked.rest.believed,
        typicality=typicality,
        unusual=typicality <= part.unusual,
        warnings=warnings_of(
            subject,
            alpha,
            trusted=trusted,
            typicality=typicality,
            notes=list(admitted.warnings),
            lossless=chosen.upscaler.capabilities.lossless,
        ),
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
    timings_ms[name] = 1e3 * (time.perf_counter() - started)


Observer = Callable[[Encoded], None]
"""Called with every answer that was stored; it returns at once, and raises nothing."""

watcher: ContextVar[OnProgress | None] = ContextVar("watcher", default=None)
"""Called with the progress of requests that this process makes in its context."""


@dataclass(slots=True)
class UpscaleService(ServiceContext):
    """Runs upscaling requests within bounded capacity; observers are notified of every answer."""

    observers: Sequence[Observer] = ()
    metrics: Metrics = field(default_factory=Metrics, kw_only=True)

    async def prepare(
        self,
        upload: Upload,
        request: UpscaleRequest,
        *,
        patient: bool = False,
        as_job: bool = False,
    ) -> Admitted:
        """Check everything that can be checked without generating.

        Args:
            upload: the file, or a function that gives it once it may be decoded.
            request: the other fields.
            patient: whether to wait for that however long the queue is.
            as_job: whether it has the deadline of a job.

        Raises:
            BadInput, NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, Overloaded.
        """
        chosen = await choose(self, request)
        decoded = await decode(self, chosen, upload, patient=patient)
        chosen = await settle(self, chosen, decoded.facts, decoded.size)
        return await admit(self, chosen, decoded, as_job=as_job)

    async def run(
        self,
        admitted: Admitted,
        *,
        result_id: str | None = None,
        patient: bool = False,
        on_begin: Callable[[], None] = lambda: None,
        on_progress: OnProgress | None = None,
        on_first: OnFirst | None = None,
    ) -> Encoded:
        """Generate, mask and store.

        Args:
            admitted: from `prepare`.
            result_id: default: a fresh one.
            patient: whether to wait for a slot however long the queue is.
            on_begin: called when it has its slot: from then on samples are paid for.
            on_progress: see `measure`; None: the `watcher` of the context.
            on_first: see `measure`.

        Raises:
            Overloaded, UpscalerError, DegenerateSamples.
        """
        arrived = time.perf_counter()
        with span("upscale", admitted.facts):
            async with self.slots.slot(admitted.footprint, patient=patient):
                waited = {"wait": 1e3 * (time.perf_counter() - arrived)}
                on_begin()
                # Nested, so that each step's input is released when the step has ended.
                encoded = await encode(
                    await generate(
                        self,
                        admitted,
                        waited,
                        on_progress=on_progress or watcher.get(),
                        on_first=on_first,
                    ),
                    result_id or f"res-{secrets.token_urlsafe(15)}",
                )
                encoded = await sign(self, encoded)
                await store(self, encoded)
        self._count(encoded.picture)
        for observer in self.observers:
            observer(encoded)
        return encoded

    def _count(self, made: Picture) -> None:
        seconds_per_sample = made.timings_ms["samples"] / 1e3 / made.samples
        self.metrics.observe("sample_seconds", seconds_per_sample, made.upscaler)
        if isinstance(made, Result):
            self.metrics.observe("trusted_fraction", made.trusted_fraction, made.upscaler)
            self.metrics.observe("typicality", made.typicality, made.upscaler)
