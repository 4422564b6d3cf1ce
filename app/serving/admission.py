"""Bounded work and memory: a few requests generate, some wait, the rest is refused.

A request's memory is known before (`footprint`), so it asks for a slot with that number of bytes,
and all slots together never exceed the budget. The queue is first come, first served: a large
request at its head lets nobody pass. But jobs, for which nobody holds a connection open, let others
pass while they cannot go themselves, and leave `spare` slots to them: two pictures of minutes must
not block those of seconds.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from app.conformal.moments import MOST_KEPT
from app.errors import ImageTooLarge, Overloaded
from app.images.facts import BY_SCORE
from app.sampling.draw import largest_call
from app.sampling.pipeline import Pipeline
from app.system import score_threads
from app.telemetry.tracing import span
from app.upscalers.base import Capabilities
from app.upscalers.runtime import SCALE

_FEWEST_PLACES: Final = 16

# Requests that may pass a job that waits for memory.
_MOST_PASSES: Final = 64


@dataclass(eq=False, slots=True)
class _Waiter:
    """A queued request; `turn` is done when it has a slot."""

    cost: int
    is_job: bool
    turn: asyncio.Future[None]
    passed: int = 0


class Slots:
    """`running` requests hold a slot, up to `most_waiting` more queue for one.

    budget: bytes of all slots together; None: no limit. seconds: first estimate of the time a slot
    is held. spare: slots that patient requests leave to others.
    """

    def __init__(
        self,
        running: int,
        most_waiting: int,
        budget: int | None = None,
        *,
        seconds: float = 10.0,
        spare: int = 0,
    ) -> None:
        self.running = running
        self.most_waiting = most_waiting
        self.budget = budget
        self.spare = spare
        self.in_flight = 0
        self._jobs = 0  # those of `in_flight` that are patient
        self.bytes_in_flight = 0
        self._queue: deque[_Waiter] = deque()
        self._seconds = seconds  # running mean

    @property
    def waiting(self) -> int:
        """Number of queued requests."""
        return len(self._queue)

    def for_short_work(self) -> Slots:
        """As many slots for work of a second at most, always with some waiting places.

        Jobs do such work too, and must not cause clients to be refused.
        """
        return Slots(self.running, max(self.most_waiting, _FEWEST_PLACES), seconds=1.0)

    def for_uploads(self) -> Slots:
        """For uploads: the decoders take them in turn, so none waits here."""
        return Slots(self.running + max(self.most_waiting, _FEWEST_PLACES), 0, seconds=1.0)

    def check_size(self, cost: int) -> None:
        """Raise ImageTooLarge if a request of so many bytes alone is over the budget."""
        if self.budget is not None and cost > self.budget:
            raise ImageTooLarge(
                f"Making the answer takes {cost:,} bytes of memory; this service has "
                f"{self.budget:,}.",
                limit="max_in_flight_bytes",
                maximum=self.budget,
                actual=cost,
            )

    def check_room(self, cost: int = 0) -> None:
        """Raise Overloaded if a request could neither have a slot nor wait for one now.

        `retry_after` estimates when a place is free.
        """
        others = sum(not waiter.is_job for waiter in self._queue)
        if (others or not self._fits(cost)) and others >= self.most_waiting:
            taken = (
                f"All {self.running} slots"
                if self.in_flight >= self.running
                else "The memory for answers"
            )
            raise Overloaded(
                f"{taken} and {self.most_waiting} waiting places are taken.",
                retry_after=max(1.0, round(self._seconds * (1 + self.waiting / self.running))),
            )

    @asynccontextmanager
    async def slot(self, cost: int = 0, *, patient: bool = False) -> AsyncIterator[None]:
        """Wait for a slot and hold it; `patient`: however many wait.

        Raises:
            Overloaded: all waiting places are taken.
            ImageTooLarge: the cost in bytes is over the budget.
        """
        self.check_size(cost)
        if not patient:
            self.check_room(cost)
        with span("wait"):
            await self._enter(cost, is_job=patient)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            yield
        finally:
            self._seconds += 0.2 * (clock() - started - self._seconds)
            self._leave(cost, is_job=patient)

    def _fits(self, cost: int) -> bool:
        within = self.budget is None or self.bytes_in_flight + cost <= self.budget
        return self.in_flight < self.running and within

    async def _enter(self, cost: int, *, is_job: bool) -> None:
        waiter = _Waiter(cost, is_job, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._call_next()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():  # it was still in the queue, perhaps before smaller ones
                if waiter in self._queue:
                    self._queue.remove(waiter)
                self._call_next()
            else:  # its turn had come
                self._leave(cost, is_job=is_job)
            raise

    def _leave(self, cost: int, *, is_job: bool) -> None:
        self.in_flight -= 1
        self._jobs -= is_job
        self.bytes_in_flight -= cost
        self._call_next()

    def _call_next(self) -> None:
        while (waiter := self._next()) is not None:
            self._queue.remove(waiter)
            if not waiter.turn.cancelled():
                self.in_flight += 1
                self._jobs += waiter.is_job
                self.bytes_in_flight += waiter.cost
                waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        """The first in the queue, or the first behind jobs that cannot run now."""
        passed: list[_Waiter] = []
        for waiter in self._queue:
            has_place = not waiter.is_job or self._jobs < self.running - self.spare
            if waiter.turn.cancelled() or (has_place and self._fits(waiter.cost)):
                for job in passed:
                    job.passed += 1
                return waiter
            if not waiter.is_job or waiter.passed >= _MOST_PASSES:
                return None
            if has_place:  # the memory is short, not the place
                passed.append(waiter)
        return None


# Bytes per pixel of the output.
_SAMPLE: Final = 3  # or the witness's answer before its reduction
_SUMS: Final = 23  # of more samples than are kept, and Ŷ
_MEAN: Final = 15  # more where Ŷ is the mean of the samples
_ANSWER: Final = 9  # Ŷ, mask and trust levels, and the files of masks
_LARGE_ANSWER: Final = 6  # the same without trust levels, whose file is made before
LARGE: Final = 16 * 2**20
"""Pixels of outputs whose files are made one after the other, to hold less at once."""
BELIEVED: Final = 16  # more where `believed.png` is made
_TRUTH: Final = 20  # both images, one being decoded, the mask and σ
_WHOLE: Final = 7  # σ and the witness's answer, where the mean of σ decides the curve
_INPUT: Final = 3  # per pixel of X
_STRIP: Final = 64 * 70  # of rows that are scored together, per pixel of width and thread


def footprint(
    height: int, width: int, pipeline: Pipeline, capabilities: Capabilities, form_bytes: int
) -> int:
    """Bytes that a request of an h×w input holds at most, without its model.

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
    if pipeline.input_rule == BY_SCORE:
        scoring += _WHOLE
    if pipeline.witness is not None:
        is_reduced = 1 < pipeline.scale < SCALE
        network = _SAMPLE * (SCALE / pipeline.scale) ** 2 if is_reduced else 0
        scoring = _SAMPLE + max(scoring, network)
    answer = (_ANSWER if output < LARGE else _LARGE_ANSWER) + form_bytes
    strips = width * pipeline.scale * _STRIP * score_threads()
    measured = output * (measuring + scoring) + strips
    return height * width * _INPUT + math.ceil(max(measured, output * answer))


def fitting(height: int, width: int, cost: Callable[[int, int], int], budget: int) -> int:
    """The longest side to which an h×w input must be reduced for its cost to fit the budget."""
    longest = max(height, width)

    def cost_of(side: int) -> int:
        return cost(math.ceil(height * side / longest), math.ceil(width * side / longest))

    return bisect_right(range(1, longest), budget, key=cost_of)


def truth_footprint(height: int, width: int, pipeline: Pipeline) -> int:
    """Bytes that scoring an H×W output against its truth holds at most."""
    return height * width * (_TRUTH + pipeline.fidelity.row.bytes_per_pixel)
