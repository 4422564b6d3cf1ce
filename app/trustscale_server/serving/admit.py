"""From a request to what may be generated: the upload is decoded, and all is checked before.

    UpscaleRequest ──choose──▶ Chosen ──decode_upload──▶ DecodedUpload
        ──settle──▶ Chosen ──admit_upload──▶ Admitted

`choose` comes before the upload is read, `settle` after it: where `auto` or several calibrations
are possible, the class of the upload decides, and nothing else about it.

Each step makes what the next one needs, so none can be called too early.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.images.decode import Decoded, Limits, decode, image_size
from trustscale_server.images.features import UPLOAD, InputFeatures, classify, look_at
from trustscale_server.images.raster import read_picture
from trustscale_server.images.sandbox.client import ImageFile, decoding, waiting_at_most
from trustscale_server.platform.errors import (
    BadImage,
    BadInput,
    BadRequest,
    ImageTooLarge,
    NoPromise,
    TooSlow,
    duration,
)
from trustscale_server.platform.tasks import shielded
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.serving.batch import Batches
from trustscale_server.serving.choose import Chosen
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.credentials import UNSIGNED, Parent, parent_of
from trustscale_server.serving.footprint import answer_footprint, fitting
from trustscale_server.serving.left_out import (
    LeavingOut,
    WordsCalibration,
    is_about_colours,
    not_read,
)
from trustscale_server.serving.pictures import check_alpha
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.stores.spool import byte_size
from trustscale_server.things import reading
from trustscale_server.upscalers.base import (
    RGB,
    Upscaler,
    image_digest,
)
from trustscale_server.upscalers.supplied import size_mismatch

JOB_TIMEOUT_S: Final = 86400.0
"""Time limit for the samples of an upscaling job."""

Upload = bytes | Callable[[], Awaitable[ImageFile]]
"""A file, or a function that gives it once it may be decoded."""

# How long somebody who waits for the answer waits until a large file may be decoded.
_MAX_WAIT_S: Final = 60.0

# Sides of an enlarged picture whose size is told.
_MAX_SEEN: Final = 2**16

# Share of the deadline that the suggested reduction may take.
_IN_TIME: Final = 0.8


@dataclass(frozen=True, slots=True)
class DecodedUpload:
    """The upload as pixels.

    digest: of the file. seed: of its pixels, for requests that name none.
    parent: the file as an ingredient of content credentials, if they are made.
    notes: on what of its own credentials was not kept. enlarged: what somebody made of it, uint8
    [H, W, 3].
    """

    image: Decoded
    features: InputFeatures
    digest: int
    seed: int
    parent: Parent | None
    notes: list[str]
    enlarged: RGB | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width, _ = self.image.rgb.shape
        return height, width


@dataclass(frozen=True, slots=True)
class MaskRequest:
    """The wanted mask: α and the part of the calibration for the upload."""

    calibration: Calibration
    alpha: float
    applicable: ApplicableCalibration
    features: InputFeatures


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that can be answered.

    mask: None: none is wanted. footprint: bytes that answering takes at most. estimate_s: time of
    the samples; None: not known.
    """

    chosen: Chosen
    decoded: DecodedUpload
    mask: MaskRequest | None
    leaving: LeavingOut
    footprint: int
    deadline_s: float
    estimate_s: float | None
    warnings: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upload."""
        return self.decoded.size

    @property
    def seed(self) -> int:
        """The seed of the samples: the request's, or else that of the pixels."""
        seed = self.chosen.request.seed
        return self.decoded.seed if seed is None else seed

    @property
    def trace_attributes(self) -> dict[str, str | int]:
        """The attributes of its trace."""
        height, width = self.size
        calibration = self.chosen.calibration
        return {
            "trustscale.upscaler": self.chosen.upscaler.name,
            "trustscale.calibration": calibration.id if calibration else "",
            "trustscale.samples": self.chosen.pipeline.samples,
            "trustscale.width": width,
            "trustscale.height": height,
        }


async def decode_upload(
    context: ServiceContext,
    chosen: Chosen,
    upload: Upload,
    enlarged: Upload | None = None,
    *,
    unbounded_wait: bool,
) -> DecodedUpload:
    """Decode the pixels of the upload; `unbounded_wait` needs no free place, as jobs are few.

    `enlarged` is the file that somebody made of it.

    Raises:
        BadInput, Overloaded.
    """
    request = chosen.request
    file = await _opened(upload)
    async with nullcontext() if unbounded_wait else context.decoding.held():
        with (
            span("decode", {"trustscale.upload_bytes": byte_size(file)}),
            waiting_at_most(math.inf if unbounded_wait else _MAX_WAIT_S),
        ):
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
                    max_input_side=request.fit,
                )
            except ImageTooLarge as error:
                if error.members["limit"] != "max_pixels" or "actual" not in error.members:
                    raise
                raise _with_cost(error, context, chosen, error.members["actual"]) from None
            enlarged_image = None
            if enlarged is not None:
                size = image.rgb.shape[1], image.rgb.shape[0]
                enlarged_image = await _enlarged(context, chosen, await _opened(enlarged), size)
        digest = await shielded(digest_of, file)
        seed = await shielded(seed_of, image.rgb)
        parent, notes = None, list[str]()
        if context.credentials:
            parent, notes = await decoding(parent_of, file, image.format)
    features = await asyncio.to_thread(look_at, image.rgb, image.compression)
    return DecodedUpload(image, features, digest, seed, parent, notes, enlarged_image)


async def _opened(upload: Upload) -> ImageFile:
    return upload if isinstance(upload, bytes) else await upload()


async def _enlarged(
    context: ServiceContext, chosen: Chosen, file: ImageFile, size: tuple[int, int]
) -> RGB:
    """A picture that somebody enlarged from one of this width and height."""
    width, height = (side * chosen.pipeline.scale for side in size)
    limits = Limits(
        context.limits.max_bytes, max_pixels=width * height, max_side=max(width, height)
    )
    most = replace(limits, max_pixels=_MAX_SEEN**2, max_side=_MAX_SEEN)  # by its header alone
    try:
        seen = await decoding(image_size, file, most)
        if (reason := size_mismatch(size, seen, chosen.pipeline.scale)) is not None:
            raise BadImage(f"It has another size: {reason}.")
        decoded = await decoding(decode, file, limits, background=chosen.request.background)
    except BadInput as error:
        error.detail = f"The enlarged picture: {error.detail}"
        raise
    if decoded.rgb.dtype != np.uint8:
        raise BadImage("An enlarged picture has 8 bits.")
    return np.asarray(decoded.rgb, np.uint8)


async def admit_upload(
    context: ServiceContext, chosen: Chosen, decoded: DecodedUpload, *, as_job: bool
) -> Admitted:
    """Check that the picture fits its form and memory, and can be made in time.

    Raises:
        BadRequest, ImageTooLarge, TooSlow, NoPromise.
    """
    height, width = decoded.size
    request = chosen.request.sized(decoded.size, chosen.pipeline.scale)
    if request.letters is None:
        request = request.model_copy(update={"letters": context.letters})
    chosen = replace(chosen, request=request)
    of_form = _form_warnings(context, chosen, decoded)
    _check_pixels(chosen.upscaler, height, width)
    footprint = answer_footprint(chosen, height, width)
    try:
        context.slots.raise_if_too_large(footprint)
    except ImageTooLarge as error:
        longest = fitting(
            height, width, partial(answer_footprint, chosen), error.members["maximum"]
        )
        detail = f"{error.detail} With fit={longest} it is reduced to that longest side first."
        error = ImageTooLarge(detail, **error.members)
        raise _with_cost(error, context, chosen, height * width) from None
    samples = chosen.pipeline.samples
    estimate = context.throughput.estimate(chosen.upscaler, height * width, samples)
    deadline = JOB_TIMEOUT_S if as_job else context.request_timeout_s
    if estimate is not None and estimate > deadline:
        raise _too_slow(decoded.size, estimate, deadline, as_job=as_job)
    mask, leaving, unread = None, LeavingOut(), list[str]()
    if chosen.calibration is not None:
        mask = await asyncio.to_thread(_mask_request, chosen, decoded, chosen.calibration)
        if (name := request.batch) is not None:
            described = await context.batches.read(name)
            mask = await asyncio.to_thread(
                _adapted, context.batches, request, mask, name, described
            )
        if chosen.upscaler.name in context.asks_first and not request.without_promise:
            await asyncio.to_thread(_check_promised, mask)
        leaving, unread = await _leaving_out(context, chosen, decoded)
    warnings = (*decoded.image.notes, *chosen.warnings, *decoded.notes, *of_form, *unread)
    return Admitted(chosen, decoded, mask, leaving, footprint, deadline, estimate, warnings)


def _mask_request(chosen: Chosen, decoded: DecodedUpload, calibration: Calibration) -> MaskRequest:
    """The mask of the request, by the curve of its group and class.

    For a class that the calibration lacks all pairs are used, and the answer says so.
    """
    request, features = chosen.request, decoded.features
    height, width = (side * calibration.pipeline.scale for side in decoded.size)
    applicable = ApplicableCalibration.from_calibration(
        calibration,
        request.group,
        features,
        size=(height, width),
        kind=request.guarantee,
        robust=request.robust,
    )
    _ = applicable.subset.curve  # computed here, in a thread, and kept
    alpha = check_alpha(request.alpha, calibration.manifest.default_alpha)
    return MaskRequest(calibration, alpha, applicable, features)


def _adapted(
    batches: Batches, request: UpscaleRequest, mask: MaskRequest, name: str, described: bytes
) -> MaskRequest:
    """The mask of the request, cut by its batch as well."""
    whole = mask.calibration.subset(request.group, request.guarantee, request.robust)
    batch = batches.curve(name, described, whole, mask.applicable.subset)
    return replace(mask, applicable=replace(mask.applicable, batch=batch))


def _check_promised(mask: MaskRequest) -> None:
    """Raise NoPromise if nothing would be promised of a mask, which is known before any call."""
    why = mask.applicable.why_not or mask.applicable.subset.shortfall(mask.alpha)
    if why is not None:
        raise NoPromise(
            f"No call was made, since nothing would be promised: {why}. Send without_promise=true "
            "to make it all the same, or mask=none for the picture alone."
        )


async def _leaving_out(
    context: ServiceContext, chosen: Chosen, decoded: DecodedUpload
) -> tuple[LeavingOut, list[str]]:
    """What is looked for in the upload, and a warning if it is text that nobody can read."""
    request, pipeline = chosen.request, chosen.pipeline
    if not is_about_colours(pipeline.fidelity) or pipeline.stretch is not None:
        return LeavingOut(), []
    is_faceless = (request.faces or context.faces) == "leave_out"
    find_faces = context.find_faces if is_faceless else None
    if context.find_lines is None or request.letters != "leave_out":
        return LeavingOut(find_faces), []
    if reading.missing(ReaderSettings()) is not None:
        warning = not_read(classify(UPLOAD, decoded.features))
        return LeavingOut(find_faces), [warning] if warning else []
    words = await _for_words(context, chosen, decoded)
    return LeavingOut(find_faces, context.find_lines, words), []


async def _for_words(
    context: ServiceContext, chosen: Chosen, decoded: DecodedUpload
) -> WordsCalibration | None:
    """The calibration for words that may call some of the upload right."""
    order = await context.calibrations.of_words(chosen.upscaler)
    if order is None:
        return None
    height, width = (side * chosen.pipeline.scale for side in decoded.size)
    whole = await asyncio.to_thread(order.choose, decoded.features, height, width)
    applicable = ApplicableCalibration.from_calibration(
        whole, None, decoded.features, size=(height, width)
    )
    return WordsCalibration(applicable.subset, applicable.is_covered)


def _form_warnings(context: ServiceContext, chosen: Chosen, decoded: DecodedUpload) -> list[str]:
    """Warnings of what the form does to the picture. Raises BadRequest: it cannot hold it."""
    form, is_transparent = chosen.form, decoded.image.alpha is not None
    longest, to = max(decoded.size) * chosen.pipeline.scale, chosen.request.to
    if to is not None and to > longest:
        raise BadRequest(f"The longest side of the picture is {longest}; to={to} is more.")
    is_16_bit = chosen.pipeline.stretch is not None
    form.raise_if_impossible(
        to or longest, transparent=is_transparent and not is_16_bit, is_16_bit=is_16_bit
    )
    warnings = form.warnings()
    if to is not None and to < longest:
        warnings.append(
            f"The picture was reduced to {to} pixels after the mask was made: "
            "the promise speaks about the picture before that."
        )
    if context.credentials and form.name in UNSIGNED:
        warnings.append(f"A picture of format={form.name} has no content credentials.")
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
    """The error, with the memory and time that so many pixels would take."""
    cost = answer_footprint(chosen, pixels, 1)
    error.members["bytes"] = cost
    takes = f" Its answer would take about {cost / 1e9:.1f} GB of memory"
    seconds = context.throughput.estimate(chosen.upscaler, pixels, chosen.pipeline.samples)
    if seconds is not None:
        error.members["seconds"] = round(seconds, 1)
        takes += f" and about {duration(seconds)}"
    detail = f"{error.detail}{takes} (settings max_input_pixels, max_in_flight_bytes)."
    return ImageTooLarge(detail, **error.members)


def _too_slow(size: tuple[int, int], estimate: float, deadline: float, *, as_job: bool) -> TooSlow:
    """The error, with the ways out."""
    height, width = size
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


def digest_of(file: ImageFile) -> int:
    """Return a number below 2^64, the same for equal files."""
    opened = io.BytesIO(file) if isinstance(file, bytes) else file
    opened.seek(0)
    digest = hashlib.blake2b(digest_size=8)
    for piece in iter(partial(opened.read, 2**20), b""):
        digest.update(piece)
    return int.from_bytes(digest.digest(), "little")


def seed_of(rgb: RGB) -> int:
    """Return the first 52 bits of an image's SHA-256, so equal images get equal answers.

    A seed must not depend on the image in a way that matters for the errors; a digest does not.
    """
    return int(image_digest(rgb)[:13], 16)
