"""What the steps of a request use: upscalers, calibrations, stores, and room for the work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trustscale_server.calibration.active import Calibrations
from trustscale_server.images.limits import Limits
from trustscale_server.platform.fair import AdmissionController, Room
from trustscale_server.sampling.throughput import Throughput
from trustscale_server.serving.batch import Batches
from trustscale_server.serving.credentials import Credentials
from trustscale_server.serving.request import Leaving
from trustscale_server.stores.results import ResultStore
from trustscale_server.things.faces import FindFaces
from trustscale_server.things.lines import FindLines
from trustscale_server.upscalers.base import AUTO, Upscaler, named


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
    stored results under another α.
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
            return [self.upscaler(each) for each in dict.fromkeys(self.active_routing.values())]
        return [self.upscaler(name)]
