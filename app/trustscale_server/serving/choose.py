"""Which upscaler and which calibration answer a request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.priority import CalibrationPriority
from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.images.decode import Limits
from trustscale_server.images.features import UPLOAD, InputFeatures, classify
from trustscale_server.images.kinds import class_in_words
from trustscale_server.platform.errors import (
    BadGroup,
    BadRequest,
    CalibrationMismatch,
    NoCalibration,
)
from trustscale_server.platform.fair import AdmissionController, Room
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.spec import (
    MeasurementSpec,
    identify,
    pipeline_differences,
    raise_if_pipeline_differs,
    raise_if_unmeasurable,
)
from trustscale_server.sampling.throughput import Throughput
from trustscale_server.serving.batch import Batches
from trustscale_server.serving.credentials import Credentials
from trustscale_server.serving.pictures import ChosenForm, form_of
from trustscale_server.serving.request import MAX_SIZES, UNMASKED_WARNING, Leaving, UpscaleRequest
from trustscale_server.stores.base import ResultStore
from trustscale_server.things import reading
from trustscale_server.things.faces import FindFaces
from trustscale_server.things.lines import FindLines
from trustscale_server.upscalers.base import (
    AUTO,
    SUPPLIED,
    Upscaler,
    named,
    routed,
)


class ModelCheck(Protocol):
    """Checks that an upscaler still is the model that was calibrated."""

    async def warnings(self, upscaler: str, calibration: str) -> list[str]:
        """Return the warnings that an answer must carry. Raises CalibrationMismatch."""
        ...


@dataclass(slots=True, kw_only=True)
class ServiceContext:
    """What the steps of a request use: upscalers, calibrations, stores, and room for the work.

    results: None: answers are not kept. request_timeout_s: the deadline of requests.
    active_routing: upscalers by class of upload; empty: there is no `auto`. prefers_auto: whether a
    request without an upscaler means `auto`. asks_first: upscalers that are not called, unless a
    request says so, where nothing would be promised. decoding, fetching: for uploads. drawing: for
    stored results under another α. robust: Γ of requests that name none; None: the calibration's.
    find_faces, find_lines: None: none are looked for. faces, letters: what requests mean that do
    not say it.
    path_prefix: of the paths that answers name.
    """

    upscalers: Mapping[str, Upscaler]
    default: str
    calibrations: Calibrations
    results: ResultStore | None
    slots: AdmissionController
    limits: Limits
    request_timeout_s: float
    canaries: ModelCheck | None = None
    throughput: Throughput = field(default_factory=Throughput)
    credentials: Credentials | None = None
    active_routing: Mapping[str, str] = field(default_factory=dict)
    prefers_auto: bool = False
    asks_first: Collection[str] = ()
    robust: float | None = None
    find_faces: FindFaces | None = None
    find_lines: FindLines | None = None
    faces: Leaving = "leave_out"
    letters: Leaving = "keep"
    path_prefix: str = ""
    batches: Batches
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

    def raise_if_full(self, name: str | None, cost: int = 0) -> None:
        """Raise Overloaded if a request could neither have a slot nor wait for one now.

        name: of the upscaler that it asks for. cost: bytes that it takes, as far as they are known.
        """
        self.slots.raise_if_full(cost, {upscaler.name for upscaler in self.candidates(name)})

    def candidates(self, name: str | None) -> list[Upscaler]:
        """Return the upscalers that a request may mean; `auto` has several. Raises NotFound."""
        if self.active_routing and (name == AUTO or (not name and self.prefers_auto)):
            return [self.upscaler(name) for name in dict.fromkeys(self.active_routing.values())]
        return [self.upscaler(name)]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What answers a request.

    pipeline: that of the calibration, if there is one. calibration: None: no mask is wanted.
    order: the active calibrations, of which `settle` takes one. why: `auto` chose this upscaler.
    """

    request: UpscaleRequest
    upscaler: Upscaler
    pipeline: MeasurementSpec
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
    if request.mask != "none" and request.robust is None:
        request = request.model_copy(update={"robust": context.robust})
    candidates = context.candidates(request.upscaler)
    able = await _able(context, request, candidates)
    return await _choose(context, request, (able or candidates)[0])


async def settle(
    context: ServiceContext, chosen: Chosen, features: InputFeatures, size: tuple[int, int]
) -> Chosen:
    """Choose what answers an upload of these features and this height and width.

    Where `auto` chooses, the upscaler for its class; of several calibrations one that covers it.

    Raises:
        NoCalibration, CalibrationMismatch, UpscalerUnavailable, BadGroup, BadRequest.
    """
    if len(candidates := context.candidates(chosen.request.upscaler)) > 1:
        chosen = await _for_class(context, chosen, candidates, features)
    if chosen.order is None:
        return chosen
    height, width = (side * chosen.pipeline.scale for side in size)
    # In a thread: the subset of a class is made at its first use.
    calibration = await asyncio.to_thread(
        _answering, chosen.order, chosen.request, features, (height, width)
    )
    return replace(chosen, calibration=calibration, pipeline=calibration.pipeline)


def _answering(
    order: CalibrationPriority,
    request: UpscaleRequest,
    features: InputFeatures,
    size: tuple[int, int],
) -> Calibration:
    """The calibration for an output of this (height, width); raises what `settle` says."""
    height, width = size
    calibration = order.choose(features, height, width)
    name = calibration.everything.class_of(features)
    applicable = calibration.applicable(request.group, name, request.guarantee, request.robust)
    if not applicable.answers_size(height, width):
        sizes = [f"{w}×{h}" for w, h in sorted(applicable.sizes or ())]
        raise CalibrationMismatch(
            f"The promise is about whole pictures of {', '.join(sizes[:MAX_SIZES])} pixels, and "
            f"this output has {width}×{height}: calibrate with unit=spot for any size, or send "
            "mask=none.",
            differences=[],
        )
    return calibration


async def _for_class(
    context: ServiceContext, chosen: Chosen, candidates: Sequence[Upscaler], features: InputFeatures
) -> Chosen:
    request = chosen.request
    name, words, why = chosen_for(context.active_routing, features)
    able = [
        upscaler for upscaler in await _able(context, request, candidates) if upscaler.name == name
    ]
    if not able:
        why = f"{name}, for uploads of this class ({words}), has no calibration. Another was taken."
    elif able[0] is not chosen.upscaler:
        chosen = await _choose(context, request, able[0])
    return replace(chosen, why=why)


def chosen_for(routing: Mapping[str, str], features: InputFeatures) -> tuple[str, str, str]:
    """Choose the upscaler of `auto` for an upload; return its class and the reason, too.

    The first pattern of the routing that matches decides. A calibration's promise about a class
    holds since the routing was fixed before.
    """
    name = classify(UPLOAD, features)
    words = class_in_words(name)
    upscaler = routed(routing, name)
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
    """What answers by this upscaler; only calibrations of its live pipeline do."""
    _check_supplied(request, upscaler)
    calibration, order, warnings = None, None, [UNMASKED_WARNING]
    if request.mask == "none":
        await identify(upscaler)
        pipeline = MeasurementSpec(
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
        raise_if_unmeasurable(pipeline.fidelity)  # words are read for every answer
        if context.canaries is not None:
            warnings += await context.canaries.warnings(upscaler.name, calibration.id)
        if not any(_promises(calibration, request) for calibration in order.calibrations):
            calibration.subset(request.group, request.guarantee, request.robust)
    form = form_of(request.format, request.quality)
    return Chosen(request, upscaler, pipeline, calibration, order, form, tuple(warnings))


def _check_supplied(request: UpscaleRequest, upscaler: Upscaler) -> None:
    """Raise BadRequest unless an enlarged picture comes with the upload where it must."""
    if upscaler.kind != SUPPLIED:
        if request.has_enlarged:
            raise BadRequest(
                f"The upscaler {upscaler.name!r} makes its own pictures: send no enlarged one, or "
                "name an upscaler of the kind supplied."
            )
        return
    if not request.has_enlarged:
        raise BadRequest(
            f"The upscaler {upscaler.name!r} has no address: send the enlarged picture, too, with "
            "enlarged=FILE."
        )
    if request.fit is not None:
        raise BadRequest("The picture was enlarged as a whole: with it nothing can be fitted.")


async def _calibrations_of(
    context: ServiceContext, request: UpscaleRequest, upscaler: Upscaler
) -> CalibrationPriority:
    """The calibrations of which one is to answer. Raises NotFound, NoCalibration."""
    if request.calibration is not None:
        return CalibrationPriority([await context.calibrations.get(request.calibration)])
    if not request.words:
        return (await context.calibrations.order(upscaler.name)).of_words(is_for_text=False)
    if (lacking := reading.missing(ReaderSettings())) is not None:
        raise NoCalibration(
            f"This service cannot read words: it lacks {lacking} (pip install '.[text]').",
            upscaler=upscaler.name,
        )
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
        raise_if_pipeline_differs(first.pipeline, upscaler, first.manifest.provenance.settings)
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
        calibration.subset(request.group, request.guarantee, request.robust)
    except (BadGroup, BadRequest):
        return False
    return True
