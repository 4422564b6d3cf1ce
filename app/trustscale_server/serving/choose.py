"""Which upscaler and which calibration answer a request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.priority import CalibrationPriority
from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.kinds.classes import class_in_words
from trustscale_server.kinds.features import UPLOAD, InputFeatures, classify
from trustscale_server.platform.errors import (
    BadGroup,
    BadRequest,
    CalibrationMismatch,
    NoCalibration,
)
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.spec import (
    MeasurementSpec,
    identify,
    pipeline_differences,
    raise_if_pipeline_differs,
    raise_if_unmeasurable,
)
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.document import UNMASKED_WARNING
from trustscale_server.serving.picture_format import ChosenFormat, chosen_format
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.things import reading
from trustscale_server.upscalers.base import SUPPLIED, Upscaler, routed


@dataclass(frozen=True, slots=True)
class Chosen:
    """What answers a request.

    pipeline: that of the calibration, if there is one. calibration: None: no mask is wanted.
    priority: the active calibrations, one of which `settle` takes. why: `auto` chose this upscaler.
    """

    request: UpscaleRequest
    upscaler: Upscaler
    pipeline: MeasurementSpec
    calibration: Calibration | None
    priority: CalibrationPriority | None
    picture_format: ChosenFormat
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
    context: ServiceContext, chosen: Chosen, features: InputFeatures, shape: tuple[int, int]
) -> Chosen:
    """Choose what answers an upload of these features and this height and width.

    `auto` takes the upscaler for the class of the upload; of several calibrations one that covers
    the upload is taken.

    Raises:
        NoCalibration, CalibrationMismatch, UpscalerUnavailable, BadGroup, BadRequest.
    """
    if len(candidates := context.candidates(chosen.request.upscaler)) > 1:
        chosen = await _for_class(context, chosen, candidates, features)
    if chosen.priority is None:
        return chosen
    height, width = (side * chosen.pipeline.scale for side in shape)
    # In a thread: the subset of a class is made at its first use.
    calibration = await asyncio.to_thread(
        _answering, chosen.priority, chosen.request, features, (height, width)
    )
    return replace(chosen, calibration=calibration, pipeline=calibration.pipeline)


def _answering(
    priority: CalibrationPriority,
    request: UpscaleRequest,
    features: InputFeatures,
    shape: tuple[int, int],
) -> Calibration:
    """The calibration for an output of this (height, width); raises what `settle` says."""
    height, width = shape
    calibration = priority.choose(features, height, width)
    name = calibration.everything.class_of(features)
    applicable = calibration.applicable(request.group, name, request.guarantee, request.robust)
    if not applicable.answers_size(height, width):
        sizes = [f"{w}×{h}" for w, h in sorted(applicable.sizes or ())]
        raise CalibrationMismatch(
            f"The promise is about whole pictures of {', '.join(sizes[:3])} pixels, and "
            f"this output has {width}×{height}: calibrate with unit=spot for any size, or send "
            "mask=none.",
            differences=[],
        )
    return calibration


async def _for_class(
    context: ServiceContext, chosen: Chosen, candidates: Sequence[Upscaler], features: InputFeatures
) -> Chosen:
    """What answers by the upscaler that the routing names for the class of an upload.

    The first pattern that matches decides. A calibration's promise about a class holds since the
    routing was fixed before.
    """
    input_class = classify(UPLOAD, features)
    words = class_in_words(input_class)
    name = routed(context.active_routing, input_class)
    able = await _able(context, chosen.request, candidates)
    upscaler = next((upscaler for upscaler in able if upscaler.name == name), None)
    if upscaler is None:
        why = f"{name}, for uploads of this class ({words}), has no calibration. Another was taken."
        return replace(chosen, why=why)
    if upscaler is not chosen.upscaler:
        chosen = await _choose(context, chosen.request, upscaler)
    why = f"{name} was chosen, as for every upload of this class: {words}."
    return replace(chosen, why=why)


async def _able(
    context: ServiceContext, request: UpscaleRequest, candidates: Sequence[Upscaler]
) -> list[Upscaler]:
    """The candidates that have an active calibration, or need none.

    Raises NoCalibration if one cannot be read: `auto` must not take another model because of that.
    """
    if request.mask == "none":
        return list(candidates)
    able = []
    for upscaler in candidates:
        if request.words:
            able += [upscaler] if await context.calibrations.for_text(upscaler) else []
        elif await context.calibrations.active_id(upscaler.name) is not None:
            priority = await context.calibrations.priority(upscaler.name)
            if request.stretch in {None, *priority.stretches}:
                able.append(upscaler)
    return able


async def _choose(context: ServiceContext, request: UpscaleRequest, upscaler: Upscaler) -> Chosen:
    """What answers by this upscaler; only calibrations of its live pipeline do."""
    _check_supplied(request, upscaler)
    await identify(upscaler)
    if request.mask == "none":
        pipeline = MeasurementSpec(
            fingerprint=upscaler.fingerprint,
            scale=upscaler.scale,
            samples=1,
            indecision=IndecisionSettings("departure"),
            stretch=request.stretch,
        )
        picture_format = chosen_format(request.format, request.quality)
        return Chosen(request, upscaler, pipeline, None, None, picture_format, (UNMASKED_WARNING,))
    candidates = await _calibrations_of(context, request, upscaler)
    priority = _of_stretch(_live(candidates, upscaler), request.stretch)
    first, warnings = priority.first, list[str]()
    raise_if_unmeasurable(first.pipeline.fidelity)  # words are read for every answer
    if context.canaries is not None:
        warnings = await context.canaries.warnings(upscaler.name, first.id)
    if not any(_promises(calibration, request) for calibration in priority.calibrations):
        first.subset(request.group, request.guarantee, request.robust)  # raises why
    picture_format = chosen_format(request.format, request.quality)
    return Chosen(
        request, upscaler, first.pipeline, first, priority, picture_format, tuple(warnings)
    )


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
    """The calibrations that may answer. Raises NotFound, NoCalibration."""
    if request.calibration is not None:
        return CalibrationPriority([await context.calibrations.get(request.calibration)])
    if not request.words:
        return (await context.calibrations.priority(upscaler.name)).without_text()
    if (lacking := reading.missing(ReaderSettings())) is not None:
        raise NoCalibration(
            f"This service cannot read words: it lacks {lacking} (pip install '.[text]').",
            upscaler=upscaler.name,
        )
    if (for_words := await context.calibrations.for_text(upscaler)) is None:
        raise NoCalibration(
            f"The upscaler {upscaler.name!r} has no calibration for text, so nothing is known of "
            f"its words. Calibrate it: trustscale calibrate FOLDER --upscaler {upscaler.name} "
            "--metric text.",
            upscaler=upscaler.name,
        )
    return for_words


def _live(priority: CalibrationPriority, upscaler: Upscaler) -> CalibrationPriority:
    """The calibrations that were made under the live pipeline. Raises CalibrationMismatch: none."""
    matching = [
        calibration
        for calibration in priority.calibrations
        if not pipeline_differences(calibration.pipeline, upscaler)
    ]
    if not matching:
        first = priority.first
        raise_if_pipeline_differs(first.pipeline, upscaler, first.manifest.provenance.settings)
    return CalibrationPriority(matching)


def _of_stretch(priority: CalibrationPriority, stretch: str | None) -> CalibrationPriority:
    """The calibrations with this stretch; by default 8 bits, if any. Raises CalibrationMismatch."""
    known = priority.stretches
    if stretch is None and None not in known:
        stretch = known[0]
    matching = [
        calibration
        for calibration in priority.calibrations
        if calibration.pipeline.stretch == stretch
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
    return CalibrationPriority(matching)


def _promises(calibration: Calibration, request: UpscaleRequest) -> bool:
    """Whether a calibration has the group and gives the guarantee of a request."""
    try:
        calibration.subset(request.group, request.guarantee, request.robust)
    except (BadGroup, BadRequest):
        return False
    return True
