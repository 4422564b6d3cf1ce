"""What happens before anything is generated: all that can be checked for nothing.

    UpscaleRequest ──choose──▶ Chosen ──decode──▶ Decoded ──settle──▶ Decoded ──admit──▶ Admitted

After them comes `make.py`.

Each step makes what the next one needs, so none can be called too early.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from app.calibration.active import Order
from app.calibration.record import Calibration
from app.conformal.indecision import IndecisionSettings
from app.errors import BadGroup, BadRequest, CalibrationMismatch, ImageTooLarge, TooSlow
from app.images import decode as images
from app.images.decoders import File, decoding, size_of
from app.images.facts import Facts, look_at
from app.images.raster import read_picture
from app.sampling.pipeline import Pipeline, differences, guard, identify
from app.serving.admission import BELIEVED, fitting, footprint
from app.serving.answer import ChosenForm, check_alpha, form_of
from app.serving.auto import chosen_for
from app.serving.context import ServiceContext
from app.serving.credentials import UNSIGNED, Parent, parent_of
from app.serving.options import UpscaleRequest
from app.serving.promise import Subject
from app.system import shielded
from app.telemetry.tracing import span
from app.upscalers.base import Upscaler

Upload = bytes | Callable[[], Awaitable[File]]
"""A file, or what gives it when it has a place among those that are decoded."""

UNMASKED: Final = (
    "There is no trust mask (mask=none): nothing says where this picture can be believed."
)

# Of the deadline, what the estimate of a reduced image takes.
_IN_TIME: Final = 0.8


@dataclass(frozen=True, slots=True)
class Chosen:
    """What answers a request, known before its upload is read.

    pipeline: makes the picture; that of the calibration, if there is one.
    calibration: what the mask is read from; None: a picture without a mask is wanted.
    order: the active calibrations; that of the upload is known once it is read (`settle`).
    why: it is this upscaler, where `auto` chose it.
    """

    request: UpscaleRequest
    upscaler: Upscaler
    pipeline: Pipeline
    calibration: Calibration | None
    order: Order | None
    seed: int
    form: ChosenForm
    warnings: tuple[str, ...]
    why: str | None = None

    def footprint(self, height: int, width: int) -> int:
        """Bytes that making the answer to an h×w upload holds at most."""
        form_bytes = self.form.bytes_per_pixel + BELIEVED * self.request.believed
        return footprint(height, width, self.pipeline, self.upscaler.capabilities, form_bytes)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The upload as pixels.

    digest: of the file. parent: the file, for content credentials; None: the picture has none.
    """

    chosen: Chosen
    image: images.Decoded
    facts: Facts
    digest: int
    parent: Parent | None
    warnings: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upload."""
        height, width, _ = self.image.rgb.shape
        return height, width


@dataclass(frozen=True, slots=True)
class Mask:
    """Which mask is wanted: α, and the part of the calibration that speaks about the upload."""

    calibration: Calibration
    alpha: float
    subject: Subject
    facts: Facts


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that can be answered.

    footprint: bytes that this holds at most. estimate_s: of the samples; None: nothing is known.
    mask: None: none is wanted.
    """

    decoded: Decoded
    mask: Mask | None
    footprint: int
    deadline_s: float
    estimate_s: float | None
    warnings: tuple[str, ...]

    @property
    def chosen(self) -> Chosen:
        return self.decoded.chosen

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upload."""
        return self.decoded.size

    @property
    def facts(self) -> dict[str, str | int]:
        """What a trace says of it."""
        height, width = self.size
        calibration = self.chosen.calibration
        return {
            "trustscale.upscaler": self.chosen.upscaler.name,
            "trustscale.calibration": calibration.id if calibration else "",
            "trustscale.samples": self.chosen.pipeline.samples,
            "trustscale.width": width,
            "trustscale.height": height,
        }


async def choose(context: ServiceContext, request: UpscaleRequest) -> Chosen:
    """What answers; where `auto` chooses, the first that can, until `settle` has seen the upload.

    Raises:
        NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, BadGroup, BadRequest.
    """
    candidates = context.candidates(request.upscaler)
    able = await _able(context, request, candidates)
    return await _choose(context, request, (able or candidates)[0])


async def settle(context: ServiceContext, decoded: Decoded) -> Decoded:
    """The upload with the upscaler for its class, where `auto` chooses, and its calibration.

    Raises:
        NoCalibration, CalibrationMismatch, UpscalerUnavailable, BadGroup, BadRequest.
    """
    decoded = await _settle_upscaler(context, decoded)
    return await asyncio.to_thread(_answered, decoded)


async def _settle_upscaler(context: ServiceContext, decoded: Decoded) -> Decoded:
    chosen, request = decoded.chosen, decoded.chosen.request
    candidates = context.candidates(request.upscaler)
    if len(candidates) == 1:
        return decoded
    name, words, why = chosen_for(context.auto, await context.choices(), decoded.facts)
    able = [one for one in await _able(context, request, candidates) if one.name == name]
    if not able:
        why = f"{name}, for uploads of this class ({words}), has no calibration. Another was taken."
        return replace(decoded, chosen=replace(chosen, why=why))
    if able[0] is not chosen.upscaler:
        rest = tuple(one for one in decoded.warnings if one not in chosen.warnings)
        chosen = await _choose(context, request, able[0])
        decoded = replace(decoded, warnings=(*rest, *chosen.warnings))
    return replace(decoded, chosen=replace(chosen, why=why))


def _answered(decoded: Decoded) -> Decoded:
    """The upload with the calibration that answers it: of several one that covers it."""
    chosen = decoded.chosen
    if chosen.order is None:
        return decoded
    height, width = (side * chosen.pipeline.scale for side in decoded.size)
    calibration = chosen.order.choose(decoded.facts, height, width)
    chosen = replace(chosen, calibration=calibration, pipeline=calibration.pipeline)
    return replace(decoded, chosen=chosen)


async def _able(
    context: ServiceContext, request: UpscaleRequest, candidates: Sequence[Upscaler]
) -> list[Upscaler]:
    """Of the candidates, those that have an active calibration, or need none."""
    if request.mask == "none":
        return list(candidates)
    able = [one for one in candidates if await context.calibrations.active_id(one.name)]
    if request.stretch is None:
        return able
    orders = [(one, await context.calibrations.order(one.name)) for one in able]
    return [one for one, order in orders if request.stretch in order.stretches]


async def _choose(context: ServiceContext, request: UpscaleRequest, upscaler: Upscaler) -> Chosen:
    """Nothing is served under another pipeline than the calibrated one."""
    calibration, order, warnings = None, None, [UNMASKED]
    if request.mask == "none":
        await identify(upscaler)
        pipeline = Pipeline(
            fingerprint=upscaler.fingerprint,
            scale=upscaler.scale,
            samples=1,
            indecision=IndecisionSettings("residual"),
            stretch=request.stretch,
        )
    else:
        active = await context.calibrations.order(upscaler.name)
        await identify(upscaler)
        order = _of_stretch(_live(active, upscaler), request.stretch)
        calibration, pipeline, warnings = order.first, order.first.pipeline, []
        if context.canaries is not None:
            warnings += await context.canaries.check(upscaler.name, calibration.id)
        if not any(_promises(one, request) for one in order.calibrations):
            calibration.under(request.guarantee).of_group(request.group)
    seed = secrets.randbits(53) if request.seed is None else request.seed
    form = form_of(request.format, request.quality)
    return Chosen(request, upscaler, pipeline, calibration, order, seed, form, tuple(warnings))


def _live(order: Order, upscaler: Upscaler) -> Order:
    """The calibrations that were made under the live pipeline. Raises CalibrationMismatch: none."""
    found = [one for one in order.calibrations if not differences(one.pipeline, upscaler)]
    if not found:
        first = order.first
        guard(first.pipeline, upscaler, first.manifest.provenance.settings)
    return order if len(found) == len(order.calibrations) else Order(found)


def _of_stretch(order: Order, stretch: str | None) -> Order:
    """The calibrations whose X was made as is asked for: by default pictures of 8 bits, if any.

    Raises:
        CalibrationMismatch: there are none.
    """
    known = order.stretches
    if stretch is None and None not in known:
        stretch = known[0]
    found = [one for one in order.calibrations if one.pipeline.stretch == stretch]
    if not found:
        there = " or ".join("pictures of 8 bits" if one is None else one for one in known)
        raise CalibrationMismatch(
            f"No active calibration was made with stretch={stretch}, but with {there}: nothing is "
            "known of such data. Calibrate with that stretch, or send mask=none.",
            differences=[{"field": "stretch", "calibrated": one, "live": stretch} for one in known],
        )
    return order if len(found) == len(order.calibrations) else Order(found)


def _promises(calibration: Calibration, request: UpscaleRequest) -> bool:
    """Whether a calibration has the group and gives the guarantee of a request."""
    try:
        calibration.under(request.guarantee).of_group(request.group)
    except (BadGroup, BadRequest):
        return False
    return True


async def decode(
    context: ServiceContext, chosen: Chosen, upload: Upload, *, patient: bool
) -> Decoded:
    """Pixels of the upload; `patient` waits for a place.

    Raises:
        BadInput, Overloaded.
    """
    request = chosen.request
    async with context.decoding.slot(patient=patient):
        file = upload if isinstance(upload, bytes) else await upload()
        with span("decode", {"trustscale.upload_bytes": size_of(file)}):
            try:
                image = await decoding(
                    read_picture,
                    file,
                    context.limits,
                    stretch=chosen.pipeline.stretch,
                    bands=request.bands,
                    page=request.page,
                    background=request.background,
                    with_alpha=True,
                    keep=request.metadata,
                    fit=request.fit,
                )
            except ImageTooLarge as error:
                if error.members["limit"] != "max_pixels" or "actual" not in error.members:
                    raise
                raise _with_cost(error, context, chosen, error.members["actual"]) from None
        digest = await shielded(digest_of, file)
        parent, notes = None, list[str]()
        if context.credentials:
            keeps_place = request.metadata == "keep-gps"
            parent, notes = await decoding(
                parent_of, file, image.format, with_credentials=keeps_place
            )
    facts = await asyncio.to_thread(look_at, image.rgb, image.compression)
    warnings = (*image.notes, *chosen.warnings, *notes)
    return Decoded(chosen, image, facts, digest, parent, warnings)


async def admit(context: ServiceContext, decoded: Decoded, *, as_job: bool) -> Admitted:
    """Whether the picture can be held by its form, by memory, and be made in time.

    Raises:
        BadRequest, ImageTooLarge, TooSlow.
    """
    chosen = decoded.chosen
    height, width = decoded.size
    warnings = [*decoded.warnings, *_form_warnings(context, decoded)]
    _check_pixels(chosen.upscaler, height, width)
    footprint = chosen.footprint(height, width)
    try:
        context.slots.check_size(footprint)
    except ImageTooLarge as error:
        longest = fitting(height, width, chosen.footprint, error.members["maximum"])
        detail = f"{error.detail} With fit={longest} it is reduced to that longest side first."
        error = ImageTooLarge(detail, **error.members)
        raise _with_cost(error, context, chosen, height * width) from None
    samples = chosen.pipeline.samples
    estimate = context.throughput.estimate(chosen.upscaler, height * width, samples)
    deadline = context.job_timeout_s if as_job else context.timeout_s
    if estimate is not None and estimate > deadline:
        raise _too_slow(decoded, estimate, deadline, as_job=as_job)
    mask = None
    if chosen.calibration is not None:
        mask = await asyncio.to_thread(_wanted, decoded, chosen.calibration)
    return Admitted(decoded, mask, footprint, deadline, estimate, tuple(warnings))


def _wanted(decoded: Decoded, calibration: Calibration) -> Mask:
    """The mask of the request, by the curve of images of its group, class and size.

    Of a class that the calibration lacks no part speaks; all pairs are used then, and the answer
    says so.
    """
    request, facts = decoded.chosen.request, decoded.facts
    promised = calibration.under(request.guarantee)
    height, width = (side * promised.pipeline.scale for side in decoded.size)
    subject = Subject.of(promised, request.group, facts, size=(height, width))
    _ = subject.part.curve  # made once, and kept
    alpha = check_alpha(request.alpha, calibration.manifest.default_alpha)
    return Mask(calibration, alpha, subject, facts)


def _form_warnings(context: ServiceContext, decoded: Decoded) -> list[str]:
    """What the form of the picture does to it. Raises BadRequest: it cannot hold it."""
    form, is_transparent = decoded.chosen.form, decoded.image.alpha is not None
    longest, wanted = max(decoded.size) * decoded.chosen.pipeline.scale, decoded.chosen.request.to
    if wanted is not None and wanted > longest:
        raise BadRequest(f"The longest side of the picture is {longest}; to={wanted} is more.")
    is_deep = decoded.chosen.pipeline.stretch is not None
    form.check(wanted or longest, transparent=is_transparent and not is_deep, deep=is_deep)
    found = form.warnings()
    if wanted is not None and wanted < longest:
        found.append(
            f"The picture was reduced to {wanted} pixels after the mask was made (to={wanted}): "
            "the promise speaks about the picture before that."
        )
    if context.credentials and form.name in UNSIGNED:
        found.append(f"A picture of format={form.name} has no content credentials.")
    if is_deep and not decoded.chosen.upscaler.capabilities.deep:
        found.append(
            f"The upscaler {decoded.chosen.upscaler.name!r} takes 8 bits: of 65,536 levels it saw "
            "and made 256."
        )
    if is_transparent and not is_deep:
        found.append(
            "The image has transparent pixels: transparency was enlarged apart from the colours, "
            "and only pixels that are wholly opaque can be trusted."
        )
    return found


def _check_pixels(upscaler: Upscaler, height: int, width: int) -> None:
    most = upscaler.capabilities.max_input_pixels
    if most is not None and height * width > most:
        raise ImageTooLarge(
            f"The image is {width}×{height}; the upscaler {upscaler.name!r} takes at most "
            f"{most:,} pixels.",
            limit="upscaler_max_input_pixels",
            maximum=most,
            actual=height * width,
        )


def _with_cost(
    error: ImageTooLarge, context: ServiceContext, chosen: Chosen, pixels: int
) -> ImageTooLarge:
    """The error, saying what the answer to an input of so many pixels would cost here."""
    cost = chosen.footprint(pixels, 1)
    error.members["bytes"] = cost
    cost_in_words = f" Its answer would take about {cost / 1e9:.1f} GB of memory"
    seconds = context.throughput.estimate(chosen.upscaler, pixels, chosen.pipeline.samples)
    if seconds is not None:
        error.members["seconds"] = round(seconds, 1)
        cost_in_words += f" and about {duration(seconds)}"
    detail = f"{error.detail}{cost_in_words} (settings max_input_pixels, max_in_flight_bytes)."
    return ImageTooLarge(detail, **error.members)


def _too_slow(decoded: Decoded, estimate: float, deadline: float, *, as_job: bool) -> TooSlow:
    """The error of too little time, with the ways out."""
    height, width = decoded.size
    longest = int(max(height, width) * math.sqrt(_IN_TIME * deadline / estimate))
    ways, members = [f"fit={longest}, which reduces the image to that longest side first"], {}
    if not as_job:
        ways.insert(0, "Prefer: respond-async, which makes it as a job")
        members["prefer"] = "respond-async"
    return TooSlow(
        f"The answer to {width}×{height} pixels would take about {duration(estimate)}, and may "
        f"take {duration(deadline)}. Send {', or '.join(ways)}.",
        estimate=round(estimate, 1),
        deadline=deadline,
        fit=longest,
        **members,
    )


def duration(seconds: float) -> str:
    """A time as people say it."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def digest_of(file: File) -> int:
    """A number below 2^64 that is the same for equal inputs."""
    opened = io.BytesIO(file) if isinstance(file, bytes) else file
    opened.seek(0)
    digest = hashlib.blake2b(digest_size=8)
    for piece in iter(partial(opened.read, 2**20), b""):
        digest.update(piece)
    return int.from_bytes(digest.digest(), "little")
