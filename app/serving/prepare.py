"""From a request to what may be generated: who answers it, and what is checked before.

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
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Final, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trustscale_server.calibration.active import CalibrationPriority, Calibrations
from trustscale_server.calibration.guarantee import GuaranteeKind
from trustscale_server.calibration.record import Calibration
from trustscale_server.concurrency import AdmissionController, Room, score_threads, shielded
from trustscale_server.config_errors import mistakes
from trustscale_server.errors import (
    BadGroup,
    BadRequest,
    CalibrationMismatch,
    ImageTooLarge,
    NoCalibration,
    TooSlow,
)
from trustscale_server.images.decode import Decoded, KeepMetadata, Limits
from trustscale_server.images.description import (
    UPLOAD,
    InputFeatures,
    class_in_words,
    classify,
    look_at,
)
from trustscale_server.images.encode import BEST_QUALITY, FormName
from trustscale_server.images.raster import Bands, Stretch, read_picture
from trustscale_server.images.resize import LongestSide
from trustscale_server.images.sandbox import File, decoding, waiting_at_most
from trustscale_server.sampling.pipeline import (
    Pipeline,
    Throughput,
    check_measurable,
    guard,
    identify,
    largest_call,
    pipeline_differences,
)
from trustscale_server.serving.answer import ApplicableCalibration, ChosenForm, check_alpha, form_of
from trustscale_server.serving.credentials import UNSIGNED, Credentials, Parent, parent_of
from trustscale_server.sigma.estimators import IndecisionSettings
from trustscale_server.sigma.features import MOST_KEPT
from trustscale_server.stores.base import ResultStore
from trustscale_server.stores.blobs import IN_MEMORY, byte_size
from trustscale_server.telemetry.signals import span
from trustscale_server.upscalers.base import (
    AUTO,
    MAX_REQUEST_SEED,
    RGB,
    Capabilities,
    Upscaler,
    image_digest,
    named,
    routed,
)

# --- A request, and which upscaler and which calibration answer it.

Pixels = Annotated[int, Field(ge=1)]
MOST_PAGES: Final = 10_000
_MOST_SIZES: Final = 3


class UpscaleOptions(BaseModel):
    """What a person chooses for one upscaling.

    None is the default; so is an empty text, as forms send it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upscaler: str | None = Field(
        None,
        description="The name of an upscaler, or auto, by which the class of the upload "
        "decides; default: auto if its upscalers are configured, else the "
        "first.",
    )
    alpha: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Largest expected error tolerated in the mask; default: the calibration's.",
        examples=[0.1],
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_REQUEST_SEED,
        description="The same seed and pipeline give the same bytes. Default: the seed follows "
        "from the pixels of the image, so the same image gives the same answer.",
    )
    mask: Literal["trust", "none"] = Field(
        "trust",
        description="`none` gives the picture alone, which needs no calibration; nothing "
        "says where it can be trusted.",
    )
    background: str | None = Field(
        None, description="Colour that transparent pixels are flattened onto."
    )
    believed: bool = Field(
        default=False,
        description="Whether zips hold `believed.png`, too: the picture in the mask, "
        "outside of it something plain.",
    )
    words: bool = Field(
        default=False,
        description="Whether the answer lists which words can be believed, by a calibration "
        "for text; mask, α and promise are about words then.",
    )
    group: str | None = Field(
        None,
        description="The group of the calibration that this image belongs to, whose curve "
        "is used. Default: the curve of all images.",
    )
    format: FormName = Field(
        "png", description="The format of the picture; masks and trust levels are PNG files."
    )
    quality: int | None = Field(
        None,
        ge=1,
        le=BEST_QUALITY,
        description="The quality of webp (100: lossless), avif and jpeg; default 90.",
    )
    metadata: KeepMetadata = Field(
        "none",
        description="`keep` copies camera, exposure, dates, author and description of the "
        "upload; `keep-gps` the place, too.",
    )
    fit: Pixels | None = Field(
        None,
        description="The longest side in pixels to which the image is reduced before upscaling.",
    )
    stretch: Stretch | None = Field(
        None,
        description="For data: the values that become the darkest and lightest of 16 bits, "
        "a window "
        "`LOW,HIGH` or percentiles `p1,p99` of the image. Default: the calibration's.",
    )
    bands: Bands | None = Field(
        None, description="Which band, or which three, of a TIFF file with several."
    )
    page: Annotated[int, Field(ge=1, le=MOST_PAGES)] | None = Field(
        None, description="The page of a TIFF file with several, from 1; default: the first."
    )
    to: LongestSide | None = Field(
        None,
        description="The longest side of the picture, which is upscaled and then reduced to it: "
        "pixels, `4k`, `8k`, or a print such as `a3@300`. A pixel is trusted where all that it was "
        "made of is.",
        examples=["4k"],
    )
    scale: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="The picture is so many times as large as the image, at most as the model "
        "makes it: `to` relative to the image.",
        examples=[2],
    )
    guarantee: GuaranteeKind | None = Field(
        None,
        description="The kind of promise; default: the calibration's. `post_hoc`, also from "
        "a calibration in expectation, lets α be chosen after looking, from "
        "`trust.png` or by `?alpha=`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value != ""}

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.to is not None and self.scale is not None:
            raise ValueError("scale and to both name the size of the picture: give one")
        return self

    @model_validator(mode="after")
    def _mask_is_wanted(self) -> Self:
        named = {self.alpha, self.group, self.guarantee} != {None}
        if self.mask == "none" and (named or self.believed or self.words):
            raise ValueError(
                "alpha, group, guarantee, believed and words need a mask, and mask=none makes none"
            )
        return self

    def sized(self, image: tuple[int, int], most: int) -> Self:
        """Return the options with `to` in place of `scale`, for an image enlarged `most` times.

        Raises:
            BadRequest: more is asked for.
        """
        if self.scale is None:
            return self
        if self.scale > most:
            raise BadRequest(f"The upscaler makes pictures ×{most}; scale={self.scale:g} is more.")
        to = max(1, round(self.scale * max(image)))
        return self.model_copy(update={"to": to, "scale": None})

    def chosen(self) -> dict[str, Any]:
        """Return the fields that a person chooses, as JSON values."""
        return self.model_dump(include=set(UpscaleOptions.model_fields))


class UpscaleRequest(UpscaleOptions):
    """The options of a request, with what the service adds.

    client: a digest of the client, with whom its job shares turns. key: the name of its key.
    keep_s: how long the result is kept. calibration: the id of one to be tried in place of the
    active ones.
    """

    calibration: str | None = None

    client: str | None = None
    key: str | None = None
    keep_s: float | None = None


def options_of(**given: Any) -> UpscaleRequest:
    """Make the request of these options; None is the default. BadRequest names all mistakes."""
    try:
        return UpscaleRequest(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise BadRequest(mistakes(error, UpscaleOptions)) from None


UNMASKED: Final = (
    "There is no trust mask (mask=none): nothing says where this picture can be believed."
)


class ModelCheck(Protocol):
    """Checks that an upscaler still is the model that was calibrated."""

    async def check(self, upscaler: str, calibration: str) -> list[str]:
        """Return the warnings that an answer must carry. Raises CalibrationMismatch."""
        ...


@dataclass(slots=True)
class ServiceContext:
    """What the steps of a request use: upscalers, calibrations, stores, and room for the work.

    results: None: answers are not kept. timeout_s: the deadline of requests.
    auto: upscalers by class of upload; empty: there is no `auto`. prefers_auto: whether a request
    without an upscaler means `auto`. decoding, fetching: for uploads. drawing: for stored results
    under another α.
    """

    upscalers: Mapping[str, Upscaler]
    default: str
    calibrations: Calibrations
    results: ResultStore | None
    slots: AdmissionController
    limits: Limits
    timeout_s: float
    canaries: ModelCheck | None = None
    throughput: Throughput = field(default_factory=Throughput, kw_only=True)
    credentials: Credentials | None = field(default=None, kw_only=True)
    auto: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    prefers_auto: bool = field(default=False, kw_only=True)
    decoding: Room = field(init=False)
    fetching: Room = field(init=False)
    drawing: AdmissionController = field(init=False)

    def __post_init__(self) -> None:
        self.decoding = self.slots.for_uploads("places for uploads")
        self.fetching = self.slots.for_uploads("places for fetching uploads")
        self.drawing = self.slots.for_short_work()

    def upscaler(self, name: str | None) -> Upscaler:
        """Return the named upscaler, or the default one. Raises NotFound."""
        return named(self.upscalers, name, self.default)

    def candidates(self, name: str | None) -> list[Upscaler]:
        """Return the upscalers that a request may mean; `auto` has several. Raises NotFound."""
        if self.auto and (name == AUTO or (not name and self.prefers_auto)):
            return [self.upscaler(name) for name in dict.fromkeys(self.auto.values())]
        return [self.upscaler(name)]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What answers a request.

    pipeline: that of the calibration, if there is one. calibration: None: no mask is wanted.
    order: the active calibrations, of which `settle` takes one. why: `auto` chose this upscaler.
    """

    request: UpscaleRequest
    upscaler: Upscaler
    pipeline: Pipeline
    calibration: Calibration | None
    order: CalibrationPriority | None
    form: ChosenForm
    warnings: tuple[str, ...]
    why: str | None = None


async def choose(context: ServiceContext, request: UpscaleRequest) -> Chosen:
    """Choose upscaler and calibration; for `auto` the first that can answer, until `settle`.

    Raises:
        NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, BadGroup, BadRequest.
    """
    candidates = context.candidates(request.upscaler)
    able = await _able(context, request, candidates)
    return await _choose(context, request, (able or candidates)[0])


async def settle(
    context: ServiceContext, chosen: Chosen, facts: InputFeatures, size: tuple[int, int]
) -> Chosen:
    """Choose what answers an upload of these facts and this height and width.

    Where `auto` chooses, the upscaler for its class; of several calibrations one that covers it.

    Raises:
        NoCalibration, CalibrationMismatch, UpscalerUnavailable, BadGroup, BadRequest.
    """
    if len(candidates := context.candidates(chosen.request.upscaler)) > 1:
        chosen = await _for_class(context, chosen, candidates, facts)
    if chosen.order is None:
        return chosen
    height, width = (side * chosen.pipeline.scale for side in size)
    calibration = await asyncio.to_thread(chosen.order.choose, facts, height, width)
    if not calibration.answers_size(height, width):
        sizes = [f"{w}×{h}" for w, h in sorted(calibration.sizes or ())]
        raise CalibrationMismatch(
            f"The promise is about whole pictures of {', '.join(sizes[:_MOST_SIZES])} pixels, and "
            f"this output has {width}×{height}: calibrate with unit=spot for any size, or send "
            "mask=none.",
            differences=[],
        )
    return replace(chosen, calibration=calibration, pipeline=calibration.pipeline)


async def _for_class(
    context: ServiceContext, chosen: Chosen, candidates: Sequence[Upscaler], facts: InputFeatures
) -> Chosen:
    request = chosen.request
    name, words, why = chosen_for(context.auto, facts)
    able = [
        upscaler for upscaler in await _able(context, request, candidates) if upscaler.name == name
    ]
    if not able:
        why = f"{name}, for uploads of this class ({words}), has no calibration. Another was taken."
    elif able[0] is not chosen.upscaler:
        chosen = await _choose(context, request, able[0])
    return replace(chosen, why=why)


def chosen_for(table: Mapping[str, str], facts: InputFeatures) -> tuple[str, str, str]:
    """Choose the upscaler of `auto` for an upload; return its class and the reason, too.

    The first pattern of the table that matches decides. A calibration's promise about a class holds
    since the table was fixed before.
    """
    name = classify(UPLOAD, facts)
    words = class_in_words(name)
    upscaler = routed(table, name)
    return upscaler, words, f"{upscaler} was chosen, as for every upload of this class: {words}."


async def _able(
    context: ServiceContext, request: UpscaleRequest, candidates: Sequence[Upscaler]
) -> list[Upscaler]:
    """Of the candidates, those that have an active calibration, or need none.

    Raises NoCalibration if one cannot be read: `auto` must not take another model because of that.
    """
    if request.mask == "none":
        return list(candidates)
    able = []
    for upscaler in candidates:
        if request.words:
            able += [upscaler] if await context.calibrations.of_words(upscaler) else []
        elif await context.calibrations.active_id(upscaler.name) is not None:
            order = await context.calibrations.order(upscaler.name)
            if request.stretch in {None, *order.stretches}:
                able.append(upscaler)
    return able


async def _choose(context: ServiceContext, request: UpscaleRequest, upscaler: Upscaler) -> Chosen:
    """Nothing is served under another pipeline than the calibrated one."""
    calibration, order, warnings = None, None, [UNMASKED]
    if request.mask == "none":
        await identify(upscaler)
        pipeline = Pipeline(
            fingerprint=upscaler.fingerprint,
            scale=upscaler.scale,
            samples=1,
            indecision=IndecisionSettings("departure"),
            stretch=request.stretch,
        )
    else:
        await identify(upscaler)
        candidates = await _calibrations_of(context, request, upscaler)
        order = _of_stretch(_live(candidates, upscaler), request.stretch)
        calibration, pipeline, warnings = order.first, order.first.pipeline, []
        check_measurable(pipeline.fidelity)  # words are read for every answer
        if context.canaries is not None:
            warnings += await context.canaries.check(upscaler.name, calibration.id)
        if not any(_promises(calibration, request) for calibration in order.calibrations):
            calibration.partitions.under(request.guarantee).partitions.of_group(request.group)
    form = form_of(request.format, request.quality)
    return Chosen(request, upscaler, pipeline, calibration, order, form, tuple(warnings))


async def _calibrations_of(
    context: ServiceContext, request: UpscaleRequest, upscaler: Upscaler
) -> CalibrationPriority:
    """The calibrations of which one is to answer. Raises NotFound, NoCalibration."""
    if request.calibration is not None:
        return CalibrationPriority([await context.calibrations.get(request.calibration)])
    if not request.words:
        return (await context.calibrations.order(upscaler.name)).of_words(reads=False)
    if (for_words := await context.calibrations.of_words(upscaler)) is None:
        raise NoCalibration(
            f"The upscaler {upscaler.name!r} has no calibration for text, so nothing is known of "
            f"its words. Calibrate it: trustscale calibrate FOLDER --upscaler {upscaler.name} "
            "--metric text.",
            upscaler=upscaler.name,
        )
    return for_words


def _live(order: CalibrationPriority, upscaler: Upscaler) -> CalibrationPriority:
    """The calibrations that were made under the live pipeline. Raises CalibrationMismatch: none."""
    matching = [
        calibration
        for calibration in order.calibrations
        if not pipeline_differences(calibration.pipeline, upscaler)
    ]
    if not matching:
        first = order.first
        guard(first.pipeline, upscaler, first.manifest.provenance.settings)
    return order if len(matching) == len(order.calibrations) else CalibrationPriority(matching)


def _of_stretch(order: CalibrationPriority, stretch: str | None) -> CalibrationPriority:
    """The calibrations with this stretch; by default 8 bits, if any. Raises CalibrationMismatch."""
    known = order.stretches
    if stretch is None and None not in known:
        stretch = known[0]
    matching = [
        calibration for calibration in order.calibrations if calibration.pipeline.stretch == stretch
    ]
    if not matching:
        others = " or ".join("pictures of 8 bits" if other is None else other for other in known)
        raise CalibrationMismatch(
            f"No active calibration was made with stretch={stretch}, but with {others}: nothing is "
            "known of such data. Three commands make a mask: pip install '.[science]'; trustscale "
            f"calibrate FOLDER --stretch {stretch} --activate; trustscale upscale FILE --stretch "
            f"{stretch}. With mask=none the picture is made alone.",
            differences=[
                {"field": "stretch", "calibrated": other, "live": stretch} for other in known
            ],
        )
    return order if len(matching) == len(order.calibrations) else CalibrationPriority(matching)


def _promises(calibration: Calibration, request: UpscaleRequest) -> bool:
    """Whether a calibration has the group and gives the guarantee of a request."""
    try:
        calibration.partitions.under(request.guarantee).partitions.of_group(request.group)
    except (BadGroup, BadRequest):
        return False
    return True


# --- What is checked of an upload before anything is generated.

JOB_TIMEOUT_S: Final = 86400.0
"""Time limit for the samples of an upscaling job."""

Upload = bytes | Callable[[], Awaitable[File]]
"""A file, or a function that gives it once it may be decoded."""

# How long somebody who waits for the answer waits until a large file may be decoded.
_LONGEST_WAIT_S: Final = 60.0

# Share of the deadline that the suggested reduction may take.
_IN_TIME: Final = 0.8

# Bytes per pixel of the output.
_SAMPLE: Final = 3
_SUMS: Final = 23  # of more samples than are kept, and Ŷ
_MEAN: Final = 15  # more where Ŷ is the mean of the samples
_ANSWER: Final = 6  # Ŷ, mask and trust levels
_FILES: Final = 8  # of noise, while they are small
_MOST_FILES: Final = 3 * IN_MEMORY  # bytes; larger ones are on the disk
_BELIEVED: Final = 16  # more where `believed.png` is made
_INPUT: Final = 3  # per pixel of X
_STRIP: Final = 64 * 70  # of rows that are scored together, per pixel of width and thread


@dataclass(frozen=True, slots=True)
class DecodedUpload:
    """The upload as pixels.

    digest: of the file. seed: of its pixels, for requests that name none.
    parent: the file as an ingredient of content credentials, if they are made.
    notes: on what of its own credentials was not kept.
    """

    image: Decoded
    facts: InputFeatures
    digest: int
    seed: int
    parent: Parent | None
    notes: list[str]

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
    subject: ApplicableCalibration
    facts: InputFeatures


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that can be answered.

    mask: None: none is wanted. footprint: bytes that answering takes at most. estimate_s: time of
    the samples; None: not known.
    """

    chosen: Chosen
    decoded: DecodedUpload
    mask: MaskRequest | None
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
    def facts(self) -> dict[str, str | int]:
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
    context: ServiceContext, chosen: Chosen, upload: Upload, *, unbounded_wait: bool
) -> DecodedUpload:
    """Decode the pixels of the upload; `unbounded_wait` needs no free place, as jobs are few.

    Raises:
        BadInput, Overloaded.
    """
    request = chosen.request
    file = upload if isinstance(upload, bytes) else await upload()
    async with nullcontext() if unbounded_wait else context.decoding.held():
        with (
            span("decode", {"trustscale.upload_bytes": byte_size(file)}),
            waiting_at_most(math.inf if unbounded_wait else _LONGEST_WAIT_S),
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
        digest = await shielded(digest_of, file)
        seed = await shielded(seed_of, image.rgb)
        parent, notes = None, list[str]()
        if context.credentials:
            keeps_place = request.metadata == "keep-gps"
            parent, notes = await decoding(
                parent_of, file, image.format, with_credentials=keeps_place
            )
    facts = await asyncio.to_thread(look_at, image.rgb, image.compression)
    return DecodedUpload(image, facts, digest, seed, parent, notes)


async def admit_upload(
    context: ServiceContext, chosen: Chosen, decoded: DecodedUpload, *, as_job: bool
) -> Admitted:
    """Check that the picture fits its form and memory, and can be made in time.

    Raises:
        BadRequest, ImageTooLarge, TooSlow.
    """
    height, width = decoded.size
    request = chosen.request.sized(decoded.size, chosen.pipeline.scale)
    chosen = replace(chosen, request=request)
    of_form = _form_warnings(context, chosen, decoded)
    _check_pixels(chosen.upscaler, height, width)
    footprint = _cost(chosen, height, width)
    try:
        context.slots.check_size(footprint)
    except ImageTooLarge as error:
        longest = fitting(height, width, partial(_cost, chosen), error.members["maximum"])
        detail = f"{error.detail} With fit={longest} it is reduced to that longest side first."
        error = ImageTooLarge(detail, **error.members)
        raise _with_cost(error, context, chosen, height * width) from None
    samples = chosen.pipeline.samples
    estimate = context.throughput.estimate(chosen.upscaler, height * width, samples)
    deadline = JOB_TIMEOUT_S if as_job else context.timeout_s
    if estimate is not None and estimate > deadline:
        raise _too_slow(decoded.size, estimate, deadline, as_job=as_job)
    mask = None
    if chosen.calibration is not None:
        mask = await asyncio.to_thread(_mask_request, chosen, decoded, chosen.calibration)
    warnings = (*decoded.image.notes, *chosen.warnings, *decoded.notes, *of_form)
    return Admitted(chosen, decoded, mask, footprint, deadline, estimate, warnings)


def _mask_request(chosen: Chosen, decoded: DecodedUpload, calibration: Calibration) -> MaskRequest:
    """The mask of the request, by the curve of its group and class.

    For a class that the calibration lacks all pairs are used, and the answer says so.
    """
    request, facts = chosen.request, decoded.facts
    promised = calibration.partitions.under(request.guarantee)
    height, width = (side * promised.pipeline.scale for side in decoded.size)
    subject = ApplicableCalibration.of(promised, request.group, facts, size=(height, width))
    _ = subject.partition.curve  # computed here, in a thread, and kept
    alpha = check_alpha(request.alpha, calibration.manifest.default_alpha)
    return MaskRequest(calibration, alpha, subject, facts)


def _form_warnings(context: ServiceContext, chosen: Chosen, decoded: DecodedUpload) -> list[str]:
    """Warnings of what the form does to the picture. Raises BadRequest: it cannot hold it."""
    form, is_transparent = chosen.form, decoded.image.alpha is not None
    longest, side = max(decoded.size) * chosen.pipeline.scale, chosen.request.to
    if side is not None and side > longest:
        raise BadRequest(f"The longest side of the picture is {longest}; to={side} is more.")
    is_16_bit = chosen.pipeline.stretch is not None
    form.check(side or longest, transparent=is_transparent and not is_16_bit, is_16_bit=is_16_bit)
    warnings = form.warnings()
    if side is not None and side < longest:
        warnings.append(
            f"The picture was reduced to {side} pixels after the mask was made (to={side}): "
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
    cost = _cost(chosen, pixels, 1)
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


def duration(seconds: float) -> str:
    """Return a time in hours, minutes or seconds."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def digest_of(file: File) -> int:
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


def _cost(chosen: Chosen, height: int, width: int) -> int:
    """Bytes that making the answer to an h×w upload holds at most."""
    form_bytes = chosen.form.bytes_per_pixel + _BELIEVED * chosen.request.believed
    return footprint(height, width, chosen.pipeline, chosen.upscaler.capabilities, form_bytes)


def footprint(
    height: int, width: int, pipeline: Pipeline, capabilities: Capabilities, form_bytes: int
) -> int:
    """Return how many bytes answering an h×w input holds at most, without its model.

    Measured, with a margin (`tests/serving/test_footprint.py`): proportional to the output's
    pixels, little to M, since samples are accumulated as they arrive. form_bytes: per pixel, of
    making the picture's file (`ChosenForm.bytes_per_pixel`).
    """
    depth = 1 if pipeline.stretch is None else 2  # bytes
    output = height * width * pipeline.scale**2 * depth
    samples = pipeline.samples
    measuring: float = _SAMPLE * samples if samples <= MOST_KEPT else _SUMS
    if not (capabilities.by_tiles and samples <= MOST_KEPT):  # else samples come as they are kept
        at_once = largest_call(capabilities, output * _SAMPLE) * capabilities.concurrency
        measuring += _SAMPLE * min(at_once, samples)
    if pipeline.prediction == "mean":
        measuring += _MEAN
    scoring: float = pipeline.indecision.row.bytes_per_pixel
    files = min(output * _FILES, _MOST_FILES)  # made beside σ, or after it
    answer = output * (_ANSWER + form_bytes)
    strips = width * pipeline.scale * _STRIP * score_threads()
    measured = output * (measuring + scoring) + strips
    return height * width * _INPUT + math.ceil(max(measured, answer)) + files


def fitting(height: int, width: int, cost: Callable[[int, int], int], budget: int) -> int:
    """Return the longest side at which the cost of an h×w input fits the budget."""
    longest = max(height, width)

    def cost_of(side: int) -> int:
        return cost(math.ceil(height * side / longest), math.ceil(width * side / longest))

    return bisect_right(range(1, longest), budget, key=cost_of)
