"""From a request to what may be generated: everything is checked before any sample is made.

    UpscaleRequest ──choose──▶ Chosen ──decode_upload──▶ DecodedUpload
        ──settle──▶ Chosen ──admit_upload──▶ Admitted

`choose` comes before the upload is read, `settle` after it: where `auto` or several calibrations
are possible, the class of the upload decides, and nothing else about it.

Each step makes what the next one needs, so none can be called too early.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Final

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.platform.errors import (
    BadRequest,
    ImageTooLarge,
    NoPromise,
    TooSlow,
    duration,
)
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.serving.choose import Chosen
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.credentials import UNSIGNED
from trustscale_server.serving.footprint import add_cost, answer_footprint, fitting_side
from trustscale_server.serving.looked_for import LookedFor, looked_for
from trustscale_server.serving.upload import DecodedUpload
from trustscale_server.upscalers.base import Upscaler

JOB_TIMEOUT_S: Final = 86400.0
"""Time limit for the samples of an upscaling job."""


@dataclass(frozen=True, slots=True)
class MaskRequest:
    """The wanted mask: its α, and the part of the calibration that applies to the upload."""

    calibration: Calibration
    alpha: float
    applicable: ApplicableCalibration


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that can be answered.

    mask: None: none is wanted. looked_for: what the mask leaves out. footprint: bytes that
    answering takes at most. estimate_s: time of the samples; None: not known.
    """

    chosen: Chosen
    decoded: DecodedUpload
    mask: MaskRequest | None
    looked_for: LookedFor
    footprint: int
    deadline_s: float
    estimate_s: float | None
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upload."""
        return self.decoded.shape

    @property
    def seed(self) -> int:
        """The seed of the samples: the request's, or else that of the pixels."""
        seed = self.chosen.request.seed
        return self.decoded.seed if seed is None else seed

    @property
    def trace_attributes(self) -> dict[str, str | int]:
        """The attributes of its trace."""
        height, width = self.shape
        calibration = self.chosen.calibration
        return {
            "trustscale.upscaler": self.chosen.upscaler.name,
            "trustscale.calibration": calibration.id if calibration else "",
            "trustscale.samples": self.chosen.pipeline.samples,
            "trustscale.width": width,
            "trustscale.height": height,
        }


async def admit_upload(
    context: ServiceContext, chosen: Chosen, decoded: DecodedUpload, *, as_job: bool
) -> Admitted:
    """Check that the picture fits its format and memory, and can be made in time.

    Raises:
        BadRequest, ImageTooLarge, TooSlow, NoPromise.
    """
    chosen = _completed(context, chosen, decoded)
    of_form = _form_warnings(context, chosen, decoded)
    footprint = _footprint(context, chosen, decoded)
    deadline_s = JOB_TIMEOUT_S if as_job else context.request_timeout_s
    estimate_s = _estimate_s(context, chosen, decoded, deadline_s, as_job=as_job)
    mask, to_leave_out, unread = None, LookedFor(), list[str]()
    if chosen.calibration is not None:
        name = chosen.request.batch
        batch = None if name is None else await context.batches.read(name)
        mask = await asyncio.to_thread(
            _mask_request, context, chosen, decoded, chosen.calibration, batch
        )
        to_leave_out, unread = await looked_for(context, chosen, decoded)
    warnings = (*decoded.image.notes, *chosen.warnings, *decoded.notes, *of_form, *unread)
    return Admitted(
        chosen, decoded, mask, to_leave_out, footprint, deadline_s, estimate_s, warnings
    )


def _completed(context: ServiceContext, chosen: Chosen, decoded: DecodedUpload) -> Chosen:
    """With the size of the picture in pixels, and the service's defaults."""
    request = chosen.request.sized(decoded.shape, chosen.pipeline.scale)
    defaults = {
        "faces": request.faces or context.faces,
        "letters": request.letters or context.letters,
    }
    return replace(chosen, request=request.model_copy(update=defaults))


def _footprint(context: ServiceContext, chosen: Chosen, decoded: DecodedUpload) -> int:
    """The bytes that answering takes at most. Raises ImageTooLarge, with what would fit."""
    height, width = decoded.shape
    _check_pixels(chosen.upscaler, height, width)
    footprint = answer_footprint(chosen, height, width)
    try:
        context.slots.raise_if_too_large(footprint)
    except ImageTooLarge as error:
        longest = fitting_side(chosen, height, width, error.members["maximum"])
        error.detail += f" With fit={longest} it is reduced to that longest side first."
        add_cost(error, context, chosen, height * width)
        raise
    return footprint


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


def _estimate_s(
    context: ServiceContext,
    chosen: Chosen,
    decoded: DecodedUpload,
    deadline_s: float,
    *,
    as_job: bool,
) -> float | None:
    """The time that the samples take; None: not known. Raises TooSlow, with the ways out."""
    height, width = decoded.shape
    samples = chosen.pipeline.samples
    estimate_s = context.throughput.estimate(chosen.upscaler, height * width, samples)
    if estimate_s is None or estimate_s <= deadline_s:
        return estimate_s
    in_time = 0.8 * deadline_s / estimate_s  # of the pixels, with a margin
    longest = int(max(height, width) * math.sqrt(in_time))
    ways, members = [f"fit={longest}, which reduces the image to that longest side first"], {}
    if not as_job:
        ways.insert(0, "Prefer: respond-async, which makes it as a job")
        members["prefer"] = "respond-async"
    raise TooSlow(
        f"The answer to {width}×{height} pixels would take about {duration(estimate_s)}, and may "
        f"take {duration(deadline_s)}. Send {', or '.join(ways)}.",
        estimate=round(estimate_s, 1),
        deadline=deadline_s,
        fit=longest,
        **members,
    )


def _mask_request(
    context: ServiceContext,
    chosen: Chosen,
    decoded: DecodedUpload,
    calibration: Calibration,
    batch: bytes | None,
) -> MaskRequest:
    """The mask of the request, by the curve of its group and class, and by its batch as well.

    For a class that the calibration lacks all pairs are used, and the answer says so.

    Raises NoPromise if nothing would be promised of it, and such a call is not wanted.
    """
    request = chosen.request
    height, width = (side * calibration.pipeline.scale for side in decoded.shape)
    applicable = ApplicableCalibration.from_calibration(
        calibration,
        request.group,
        decoded.features,
        shape=(height, width),
        kind=request.guarantee,
        robust=request.robust,
    )
    _ = applicable.subset.curve  # computed here, in a thread, and kept
    if request.batch is not None and batch is not None:
        whole = calibration.subset(request.group, request.guarantee, request.robust)
        curve = context.batches.curve(request.batch, batch, whole, applicable.subset)
        applicable = replace(applicable, batch=curve)
    alpha = calibration.manifest.default_alpha if request.alpha is None else request.alpha
    if chosen.upscaler.name in context.asks_first and not request.without_promise:
        _check_promised(applicable, alpha)
    return MaskRequest(calibration, alpha, applicable)


def _check_promised(applicable: ApplicableCalibration, alpha: float) -> None:
    """Raise NoPromise if nothing would be promised of a mask, which is known before any call."""
    why = applicable.why_not or applicable.subset.shortfall(alpha)
    if why is not None:
        raise NoPromise(
            f"No call was made, since nothing would be promised: {why}. Send without_promise=true "
            "to make it all the same, or mask=none for the picture alone."
        )


def _form_warnings(context: ServiceContext, chosen: Chosen, decoded: DecodedUpload) -> list[str]:
    """Warnings of what the format does to the picture. Raises BadRequest: it cannot hold it."""
    picture_format, is_transparent = chosen.picture_format, decoded.image.alpha is not None
    longest, to = max(decoded.shape) * chosen.pipeline.scale, chosen.request.to
    if to is not None and to > longest:
        raise BadRequest(f"The longest side of the picture is {longest}; to={to} is more.")
    is_16_bit = chosen.pipeline.stretch is not None
    picture_format.raise_if_impossible(
        to or longest, transparent=is_transparent and not is_16_bit, is_16_bit=is_16_bit
    )
    warnings = picture_format.warnings()
    if to is not None and to < longest:
        warnings.append(
            f"The picture was reduced to {to} pixels after the mask was made: "
            "the promise speaks about the picture before that."
        )
    if context.credentials and picture_format.name in UNSIGNED:
        warnings.append(f"A picture of format={picture_format.name} has no content credentials.")
    if is_16_bit and not chosen.upscaler.capabilities.takes_16_bit:
        warnings.append(
            f"The upscaler {chosen.upscaler.name!r} takes 8 bits: of 65,536 levels it saw "
            "and made 256."
        )
    if is_transparent and not is_16_bit:
        warnings.append(
            "The image has transparent pixels: transparency was enlarged apart from the colours, "
            "and only pixels that are wholly opaque can be trusted."
        )
    return warnings
