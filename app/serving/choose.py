"""A request, and which upscaler and which calibration answer it.

    UpscaleRequest ──choose──▶ Chosen ──(decode)──▶ settle ──▶ Chosen

`choose` comes before the upload is read, `settle` after it: where `auto` or several calibrations
are possible, the class of the upload decides, and nothing else about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trustscale_server.admission import AdmissionController, Room
from trustscale_server.calibration.active import CalibrationPriority, Calibrations
from trustscale_server.calibration.guarantee import GuaranteeKind
from trustscale_server.calibration.measure import check_measurable
from trustscale_server.calibration.record import Calibration
from trustscale_server.config_errors import mistakes
from trustscale_server.errors import BadGroup, BadRequest, CalibrationMismatch, NoCalibration
from trustscale_server.images.decode import KeepMetadata, Limits
from trustscale_server.images.encode import BEST_QUALITY, FormName
from trustscale_server.images.facts import UPLOAD, InputFeatures, classify
from trustscale_server.images.kinds import class_in_words
from trustscale_server.images.raster import Bands, Stretch
from trustscale_server.images.resize import LongestSide
from trustscale_server.sampling.draw import Throughput
from trustscale_server.sampling.pipeline import Pipeline, guard, identify, pipeline_differences
from trustscale_server.serving.answer import ChosenForm, form_of
from trustscale_server.serving.credentials import Credentials
from trustscale_server.sigma.estimators import IndecisionSettings
from trustscale_server.stores.base import ResultStore
from trustscale_server.upscalers.base import AUTO, MAX_REQUEST_SEED, Upscaler, named, routed

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
        description="Name, or auto: the class of the upload decides; default: auto where its "
        "upscalers are there, else the first.",
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
        description="`none`: the picture alone. It needs no calibration, and nothing says where it "
        "can be trusted.",
    )
    background: str | None = Field(
        None, description="Colour that transparent pixels are flattened onto."
    )
    believed: bool = Field(
        default=False,
        description="Also `believed.png` in zips: the picture in the mask, outside of it something "
        "plain.",
    )
    words: bool = Field(
        default=False,
        description="Also which words can be believed: by a calibration for text, whose mask, α "
        "and promise are about words. The answer lists them.",
    )
    group: str | None = Field(
        None,
        description="Group of images that this one belongs to, of those that the calibration has: "
        "its curve is used. Default: the curve of all images.",
    )
    format: FormName = Field(
        "png", description="Of the picture; masks and trust levels are PNG files."
    )
    quality: int | None = Field(
        None, ge=1, le=BEST_QUALITY, description="Of webp (100: lossless), avif, jpeg; default 90."
    )
    metadata: KeepMetadata = Field(
        "none",
        description="`keep`: camera, exposure, dates, author and description of the upload; "
        "`keep-gps`: the place, too.",
    )
    fit: Pixels | None = Field(
        None, description="Longest side in pixels that the image is reduced to before."
    )
    stretch: Stretch | None = Field(
        None,
        description="Of data: the values that become the darkest and lightest of 16 bits, a window "
        "`LOW,HIGH` or percentiles `p1,p99` of the image. Default: the calibration's.",
    )
    bands: Bands | None = Field(
        None, description="Which band, or which three, of a TIFF file with several."
    )
    page: Annotated[int, Field(ge=1, le=MOST_PAGES)] | None = Field(
        None, description="Of a TIFF file with several, from 1; default: the first."
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
        description="Default: the calibration's. `post_hoc`, also from one in expectation: α may "
        "be chosen after looking, from `trust.png` or by `?alpha=`.",
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
