"""Which upscaler and which calibration answer a request.

    UpscaleRequest ──choose──▶ Chosen ──(decode)──▶ settle ──▶ Chosen

`choose` comes before the upload is read, `settle` after it: where `auto` or several calibrations
are possible, the class of the upload decides, and nothing else about it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Final, Protocol

from app.calibration.active import Calibrations, Order
from app.calibration.choice import Choice, choices
from app.calibration.record import Calibration
from app.conformal.indecision import IndecisionSettings
from app.errors import BadCalibration, BadGroup, BadRequest, CalibrationMismatch, NoCalibration
from app.images.compression import class_in_words
from app.images.decode import Limits
from app.images.facts import UPLOAD, Facts, classify
from app.sampling.draw import Throughput
from app.sampling.pipeline import Pipeline, differences, guard, identify
from app.serving.admission import BELIEVED, Slots, footprint
from app.serving.answer import ChosenForm, form_of
from app.serving.credentials import Credentials
from app.serving.options import UpscaleRequest
from app.stores.base import ResultStore
from app.upscalers.base import AUTO, Upscaler, named

UNMASKED: Final = (
    "There is no trust mask (mask=none): nothing says where this picture can be believed."
)


class ModelCheck(Protocol):
    """Checks that an upscaler still is the model that was calibrated."""

    async def check(self, upscaler: str, calibration: str) -> list[str]:
        """Warnings that an answer must carry. Raises CalibrationMismatch."""
        ...


@dataclass(slots=True)
class ServiceContext:
    """What the steps of a request use: upscalers, calibrations, stores, and room for the work.

    results: None: answers are not kept. timeout_s, job_timeout_s: deadlines of requests and jobs.
    auto: upscalers by class of upload; empty: there is no `auto`. auto_measured: whether
    measurements of the active calibrations come first. prefers_auto: whether a request without an
    upscaler means `auto`. decoding: for uploads. drawing: for stored results under another α.
    """

    upscalers: Mapping[str, Upscaler]
    default: str
    calibrations: Calibrations
    results: ResultStore | None
    slots: Slots
    limits: Limits
    timeout_s: float
    canaries: ModelCheck | None = None
    job_timeout_s: float = field(default=86400.0, kw_only=True)
    throughput: Throughput = field(default_factory=Throughput, kw_only=True)
    credentials: Credentials | None = field(default=None, kw_only=True)
    auto: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    auto_measured: bool = field(default=True, kw_only=True)
    prefers_auto: bool = field(default=False, kw_only=True)
    decoding: Slots = field(init=False)
    drawing: Slots = field(init=False)

    def __post_init__(self) -> None:
        self.decoding = self.slots.for_uploads()
        self.drawing = self.slots.for_short_work()

    def upscaler(self, name: str | None) -> Upscaler:
        """The named upscaler, or the default one. Raises NotFound."""
        return named(self.upscalers, name, self.default)

    def candidates(self, name: str | None) -> list[Upscaler]:
        """The upscalers that a request may mean: several where `auto` chooses. Raises NotFound."""
        if self.auto and (name == AUTO or (not name and self.prefers_auto)):
            return [self.upscaler(one) for one in dict.fromkeys(self.auto.values())]
        return [self.upscaler(name)]

    async def choices(self) -> Mapping[str, Choice]:
        """Upscalers that `auto` takes by class as measured; its table decides for other classes."""
        if not (self.auto and self.auto_measured):
            return {}
        names = dict.fromkeys(self.auto.values())
        try:
            orders = [await self.calibrations.order(name) for name in names]
        except (NoCalibration, BadCalibration):
            return {}
        active = tuple(tuple(order.calibrations) for order in orders)
        return await asyncio.to_thread(_choices, active, tuple(self.auto.items()))


@lru_cache(maxsize=2)
def _choices(
    active: tuple[tuple[Calibration, ...], ...], table: tuple[tuple[str, str], ...]
) -> Mapping[str, Choice]:
    """As `choices`: it takes a while, and calibrations change seldom."""
    return choices(active, partial(chosen_from, dict(table)))


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
    order: Order | None
    seed: int
    form: ChosenForm
    warnings: tuple[str, ...]
    why: str | None = None

    def footprint(self, height: int, width: int) -> int:
        """Bytes that making the answer to an h×w upload holds at most."""
        form_bytes = self.form.bytes_per_pixel + BELIEVED * self.request.believed
        return footprint(height, width, self.pipeline, self.upscaler.capabilities, form_bytes)


async def choose(context: ServiceContext, request: UpscaleRequest) -> Chosen:
    """What answers; where `auto` chooses, the first upscaler that can, until `settle`.

    Raises:
        NotFound, NoCalibration, CalibrationMismatch, UpscalerUnavailable, BadGroup, BadRequest.
    """
    candidates = context.candidates(request.upscaler)
    able = await _able(context, request, candidates)
    return await _choose(context, request, (able or candidates)[0])


async def settle(
    context: ServiceContext, chosen: Chosen, facts: Facts, size: tuple[int, int]
) -> Chosen:
    """What answers an upload of these facts and this height and width.

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
    return replace(chosen, calibration=calibration, pipeline=calibration.pipeline)


async def _for_class(
    context: ServiceContext, chosen: Chosen, candidates: Sequence[Upscaler], facts: Facts
) -> Chosen:
    request = chosen.request
    name, words, why = chosen_for(context.auto, await context.choices(), facts)
    able = [one for one in await _able(context, request, candidates) if one.name == name]
    if not able:
        why = f"{name}, for uploads of this class ({words}), has no calibration. Another was taken."
    elif able[0] is not chosen.upscaler:
        chosen = await _choose(context, request, able[0])
    return replace(chosen, why=why)


def chosen_for(
    table: Mapping[str, str], measured: Mapping[str, Choice], facts: Facts
) -> tuple[str, str, str]:
    """`auto`: the upscaler for an upload, its class in words, and the reason.

    A calibration's promise about a class holds since the choice was fixed before, by the table, or
    by measurements on scenes that calibrate nothing (`app/calibration/choice.py`).
    """
    name = classify(UPLOAD, facts)
    words = class_in_words(name)
    if (choice := measured.get(name)) is not None:
        why = f"{choice.upscaler} was chosen for uploads of this class ({words}): {choice.why}."
        return choice.upscaler, words, why
    upscaler = chosen_from(table, name)
    return upscaler, words, f"{upscaler} was chosen, as for every upload of this class: {words}."


def chosen_from(table: Mapping[str, str], name: str) -> str:
    """The upscaler for uploads of a class, by the first pattern that matches."""
    return next(upscaler for pattern, upscaler in table.items() if fnmatchcase(name, pattern))


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
    """The calibrations with this stretch; by default 8 bits, if any. Raises CalibrationMismatch."""
    known = order.stretches
    if stretch is None and None not in known:
        stretch = known[0]
    found = [one for one in order.calibrations if one.pipeline.stretch == stretch]
    if not found:
        others = " or ".join("pictures of 8 bits" if one is None else one for one in known)
        raise CalibrationMismatch(
            f"No active calibration was made with stretch={stretch}, but with {others}: nothing is "
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
