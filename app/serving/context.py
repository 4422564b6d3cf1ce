"""What requests are answered with: upscalers, calibrations, stores, and room for the work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Protocol

from app.calibration.active import Calibrations
from app.calibration.choice import Choice, choices
from app.calibration.record import Calibration
from app.errors import BadCalibration, NoCalibration
from app.images.decode import Limits
from app.sampling.draw import Throughput
from app.serving.admission import Slots
from app.serving.auto import chosen_from
from app.serving.credentials import Credentials
from app.stores.base import ResultStore
from app.upscalers.base import AUTO, Upscaler, named


class ModelCheck(Protocol):
    """Checks that an upscaler still is the model that was calibrated."""

    async def check(self, upscaler: str, calibration: str) -> list[str]:
        """Warnings that an answer must carry. Raises CalibrationMismatch."""
        ...


@dataclass(slots=True)
class ServiceContext:
    """What the steps work with.

    results: keeps the answers; None: nothing does.
    timeout_s, job_timeout_s: the deadlines of a request and of a job.
    auto: the upscaler that `auto` takes by class of upload; empty: there is no `auto`.
    auto_measured: whether measurements of the active calibrations come first.
    prefers_auto: whether a request without an upscaler means `auto`.
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
    # Uploads that are decoded or wait for it; the decoders take them in turn.
    decoding: Slots = field(init=False)
    # Masks and overlays of stored results for another α; they never wait for generations.
    drawing: Slots = field(init=False)

    def __post_init__(self) -> None:
        """Create separate slots for short work."""
        self.decoding = self.slots.for_uploads()
        self.drawing = self.slots.for_short_work()

    def upscaler(self, name: str | None) -> Upscaler:
        """The named upscaler, or the default one.

        Raises:
            NotFound: no upscaler has this name.
        """
        return named(self.upscalers, name, self.default)

    def candidates(self, name: str | None) -> list[Upscaler]:
        """The upscalers that a request may mean by this name: several where `auto` chooses.

        Raises:
            NotFound: no upscaler has this name.
        """
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
