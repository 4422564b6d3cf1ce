"""Upscaling requests: from uploaded bytes to a stored result. HTTP and jobs both call this."""

from __future__ import annotations

import asyncio
import io
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import __version__
from app.calibration.active import Calibrations
from app.calibration.record import Calibration
from app.canary.watch import CanaryWatch
from app.errors import BadRequest, ImageTooLarge
from app.images.decode import Decoded, Limits, decode
from app.images.encode import png_grey16, png_mask, png_rgb
from app.images.overlay import overlay
from app.monitor.watch import Monitor, digest_of
from app.sampling.measure import Measurement, measure
from app.sampling.pipeline import guard, learn
from app.serving.admission import Slots
from app.serving.answer import Links, Result, guarantee, parse_alpha, threshold_json, warnings_of
from app.serving.footprint import footprint
from app.stores.base import ResultStore
from app.system import to_the_end
from app.telemetry.tracing import span
from app.upscalers.base import Source, Upscaler, named
from app.upscalers.seeds import MAX_REQUEST_SEED

IMAGE, MASK, TRUST, SIGMA = "image.png", "mask.png", "trust.png", "sigma.f32"
INPUT = "input.digest"  # tells whether two results are of the same image


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """The fields of a request, not yet checked; None means the default.

    client: who asks, as a digest; only the monitor reads it.
    """

    upscaler: str | None = None
    alpha: str | float | None = None
    seed: int | None = None
    background: str | None = None
    client: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that has been checked and whose image has been decoded."""

    upscaler: Upscaler
    calibration: Calibration
    alpha: float
    seed: int
    image: Decoded
    warnings: tuple[str, ...] = ()
    digest: int = 0
    client: str | None = None
    group: str | None = None

    @property
    def footprint(self) -> int:
        """Bytes that making the answer holds at most."""
        height, width = self.image.rgb.shape[:2]
        return footprint(height, width, self.calibration.pipeline, self.upscaler.capabilities)

    @property
    def part(self) -> Calibration:
        """The part of the calibration that speaks about the group; all of it without one."""
        return self.calibration.of_group(self.group)

    @property
    def facts(self) -> dict[str, str | int]:
        """What a trace says of it."""
        height, width = self.image.rgb.shape[:2]
        return {
            "trustscale.upscaler": self.upscaler.name,
            "trustscale.calibration": self.calibration.id,
            "trustscale.samples": self.calibration.pipeline.samples,
            "trustscale.width": width,
            "trustscale.height": height,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished request: the document and the files, as they are stored."""

    result: Result
    files: Mapping[str, bytes]


class UpscaleService:
    """Runs upscaling requests within bounded capacity."""

    def __init__(
        self,
        upscalers: Mapping[str, Upscaler],
        default: str,
        calibrations: Calibrations,
        results: ResultStore,
        slots: Slots,
        limits: Limits,
        timeout_s: float,
        canaries: CanaryWatch | None = None,
        monitor: Monitor | None = None,
        on_answer: Callable[[Result], None] | None = None,
    ) -> None:
        self.upscalers = upscalers
        self.default = default
        self.calibrations = calibrations
        self.results = results
        self.slots = slots
        self.limits = limits
        self.timeout_s = timeout_s
        self.canaries = canaries
        self.monitor = monitor
        self.on_answer = on_answer

    def upscaler(self, name: str | None) -> Upscaler:
        """The named upscaler, or the default one.

        Raises:
            NotFound: no upscaler has this name.
        """
        return named(self.upscalers, name, self.default)

    async def prepare(
        self, upload: bytes | Callable[[], Awaitable[bytes]], request: UpscaleRequest
    ) -> Prepared:
        """Check everything that can be checked without generating.

        Args:
            upload: the file, or what reads it: few are read and decoded at the same time, and
                here the others wait for that.
            request: the other fields.

        Raises:
            BadInput, NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable.
        """
        upscaler = self.upscaler(request.upscaler)
        calibration = await self.calibrations.active(upscaler.name)
        await learn(upscaler)
        guard(calibration.pipeline, upscaler)
        warnings = await self.canaries.check(upscaler.name, calibration.id) if self.canaries else []
        group = request.group or None
        await asyncio.to_thread(lambda: calibration.of_group(group).curve)
        alpha = parse_alpha(request.alpha, calibration.manifest.default_alpha)
        seed = secrets.randbits(53) if request.seed is None else request.seed
        if not 0 <= seed <= MAX_REQUEST_SEED:
            raise BadRequest(f"seed must be between 0 and {MAX_REQUEST_SEED}.")
        async with self.slots.desk:
            data = upload if isinstance(upload, bytes) else await upload()
            with span("decode", {"trustscale.upload_bytes": len(data)}):
                image = await asyncio.to_thread(
                    decode, data, self.limits, background=request.background or None
                )
            digest = await asyncio.to_thread(digest_of, data)
        height, width = image.rgb.shape[:2]
        most = upscaler.capabilities.max_input_pixels
        if most is not None and height * width > most:
            raise ImageTooLarge(
                f"The image is {width}×{height}; the upscaler {upscaler.name!r} takes at most "
                f"{most:,} pixels.",
                limit="upscaler_max_input_pixels",
                maximum=most,
                actual=height * width,
            )
        prepared = Prepared(
            upscaler,
            calibration,
            alpha,
            seed,
            image,
            tuple(warnings),
            digest,
            request.client,
            group,
        )
        self.slots.check_size(prepared.footprint)
        return prepared

    async def run(
        self,
        prepared: Prepared,
        *,
        result_id: str | None = None,
        patient: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Answer:
        """Generate, mask and store; `patient` waits for a slot however long the queue is.

        Raises:
            Overloaded, UpscalerError, DegenerateSamples.
        """
        result_id = result_id or f"res-{secrets.token_urlsafe(15)}"
        arrived = time.perf_counter()
        with span("upscale", prepared.facts):
            async with self.slots.slot(prepared.footprint, patient=patient):
                waited = time.perf_counter() - arrived
                measurement = await measure(
                    prepared.upscaler,
                    Source(prepared.image.rgb),
                    prepared.calibration.pipeline,
                    prepared.seed,
                    deadline=self.timeout_s,
                    on_progress=on_progress,
                )
                answer = await to_the_end(_answer, result_id, prepared, measurement, waited)
                document = answer.result.model_dump_json().encode()
                # Still in the slot: answers that a slow store has not taken yet are memory, too.
                with span("store"):
                    await self.results.put(result_id, document, answer.files)
        if self.on_answer is not None:
            self.on_answer(answer.result)
        if self.monitor is not None:
            self.monitor.note(
                prepared.part,
                mean_log_sigma=measurement.mean_log_sigma,
                trusted_fraction=answer.result.trusted_fraction,
                typicality=answer.result.typicality,
                digest=prepared.digest,
                client=prepared.client,
            )
        return answer


def _answer(result_id: str, prepared: Prepared, measurement: Measurement, waited: float) -> Answer:
    """Threshold, mask, trust level and their files."""
    calibration, alpha, sigma = prepared.calibration, prepared.alpha, measurement.sigma
    group, part = prepared.group, prepared.part
    height, width = sigma.shape
    started = time.perf_counter()
    with span("mask", {"trustscale.alpha": alpha}):
        mask = part.curve.mask(sigma, alpha)
        trust = part.curve.trust_code(sigma)
    masked = time.perf_counter()
    text = png_text(calibration, alpha, group)
    with span("encode"):
        files = {
            IMAGE: png_rgb(measurement.prediction, text),
            MASK: png_mask(mask, text),
            TRUST: png_grey16(trust, text),
            SIGMA: sigma.tobytes(),
            INPUT: prepared.digest.to_bytes(8, "little"),
        }
    encoded = time.perf_counter()
    promise = guarantee(calibration, alpha, height, width, group)
    typicality = part.typicality(measurement.mean_log_sigma)
    base = f"/v1/results/{result_id}"
    result = Result(
        id=result_id,
        upscaler=prepared.upscaler.name,
        calibration=calibration.id,
        group=group,
        scale=calibration.pipeline.scale,
        width=width,
        height=height,
        alpha=alpha,
        threshold=threshold_json(part.curve.threshold(alpha)),
        trusted_fraction=float(np.count_nonzero(mask)) / mask.size,
        samples=calibration.pipeline.samples,
        seed=prepared.seed,
        prediction=calibration.pipeline.prediction,
        guarantee=promise,
        typicality=typicality,
        warnings=warnings_of(
            calibration,
            alpha,
            applicability=promise.applicability,
            typicality=typicality,
            notes=[*prepared.image.notes, *prepared.warnings],
            lossless=prepared.upscaler.capabilities.lossless,
            group=group,
        ),
        timings_ms={
            "wait": 1e3 * waited,
            **measurement.timings_ms,
            "mask": 1e3 * (masked - started),
            "encode": 1e3 * (encoded - masked),
        },
        links=Links(
            self=base,
            image=f"{base}/{IMAGE}",
            mask=f"{base}/{MASK}",
            trust=f"{base}/{TRUST}",
            overlay=f"{base}/overlay.png",
        ),
    )
    return Answer(result, files)


def png_text(calibration: Calibration, alpha: float, group: str | None = None) -> dict[str, str]:
    """Text chunks that tell where a file comes from, once it has left the service."""
    promise = calibration.guarantee
    facts = {"trustscale:group": group} if group is not None else {}
    if promise.kind == "high_probability":
        facts["trustscale:delta"] = repr(promise.delta)
    return {
        "Software": f"trustscale {__version__}",
        "trustscale:calibration": calibration.id,
        "trustscale:alpha": repr(alpha),
        "trustscale:threshold": repr(calibration.of_group(group).curve.threshold(alpha)),
        "trustscale:fingerprint": calibration.pipeline.fingerprint,
        **facts,
    }


def png_overlay(
    image: bytes, mask: NDArray[np.bool_], text: Mapping[str, str] | None = None
) -> bytes:
    """The overlay of an upscaled image; it carries the text chunks of the image, or `text`."""
    picture = Image.open(io.BytesIO(image))
    pixels = np.asarray(picture)
    own = {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
    return png_rgb(overlay(pixels, mask), own if text is None else text)


def sigma_map(data: bytes, result: Result) -> NDArray[np.float32]:
    """σ of a stored result, float32 [H, W]."""
    return np.frombuffer(data, np.float32).reshape(result.height, result.width)
