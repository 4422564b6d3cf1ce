"""The queue between connections and the model, and the worker's metrics.

The model runs in one thread. Where it gains by it, later requests with images of the same size join
the first.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trustscale_server.upscalers.base import RGB
from trustscale_worker.errors import ClientGone, ModelFailed, QueueFull, WorkerError
from trustscale_worker.models.engine import DeviceMemory, Engine, SampleRequest

# Weight of the newest call in the mean of seconds per sample, which estimates Retry-After.
_NEWEST = 0.3


class WorkerMetrics:
    """All metrics of one worker; `memory` is called at every scrape."""

    def __init__(self, memory: Callable[[], DeviceMemory]) -> None:
        self._registry = CollectorRegistry()
        common: Any = {"namespace": "trustscale_worker", "registry": self._registry}
        self.waiting = Gauge("queue_requests", "Requests waiting.", **common)
        self.requests = Counter("requests", "Inference requests by status.", ["status"], **common)
        self.samples = Counter("samples", "Samples made.", **common)
        self.batch = Histogram(
            "batch_samples",
            "Samples asked for in one call of the model.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            **common,
        )
        self.seconds = Histogram(
            "sample_seconds",
            "Seconds per sample of one call of the model.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
            **common,
        )
        used = Gauge(
            "device_memory_used_bytes",
            "Memory in use on the device, by everyone.",
            ["device"],
            **common,
        )
        total = Gauge("device_memory_total_bytes", "Memory of the device.", ["device"], **common)
        device = memory().device
        used.labels(device).set_function(lambda: _number(memory().used))
        total.labels(device).set_function(lambda: _number(memory().total))

    def text(self) -> bytes:
        return generate_latest(self._registry)


def _number(value: int | None) -> float:
    return math.nan if value is None else value


@dataclass(eq=False)
class _Ticket:
    """A waiting or running request; `answer` is done when it is ready or no longer wanted."""

    job: SampleRequest
    answer: asyncio.Future[RGB]

    def settle(self, outcome: RGB | WorkerError) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, WorkerError):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Batcher:
    """A bounded queue in front of one engine; a context manager that starts and stops it."""

    def __init__(self, engine: Engine, metrics: WorkerMetrics, queue_size: int) -> None:
        self._engine = engine
        self._metrics = metrics
        self._size = queue_size
        self._waiting: deque[_Ticket] = deque()
        metrics.waiting.set_function(lambda: len(self._waiting))
        self._running: list[_Ticket] = []
        self._arrived = asyncio.Event()
        self._closed = False
        self._seconds_per_sample = 1.0

    @property
    def open(self) -> bool:
        return not self._closed

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give up what is left, and wait until the model has stopped."""
        self._closed = True
        for ticket in [*self._waiting, *self._running]:
            ticket.settle(self.busy("the worker is shutting down"))
        self._waiting.clear()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.to_thread(self._thread.shutdown)

    def raise_if_full(self) -> None:
        """Raise QueueFull if the queue is full or closed."""
        if self._closed:
            raise self.busy("the worker is shutting down")
        if len(self._waiting) >= self._size:
            raise self.busy(f"the queue is full ({self._size} requests are waiting)")

    async def submit(self, image: RGB, seeds: NDArray[np.int64]) -> RGB:
        """Return the samples [M, kh, kw, 3] of an image [h, w, 3] and seeds int64[M].

        Cancelling the call cancels the work, also when it runs.

        Raises:
            QueueFull: also if it is closed.
            WorkerError: what the engine raised.
        """
        self.raise_if_full()
        answer: asyncio.Future[RGB] = asyncio.get_running_loop().create_future()
        ticket = _Ticket(SampleRequest(image, seeds, answer.done), answer)
        self._waiting.append(ticket)
        self._arrived.set()
        try:
            return await answer
        finally:
            answer.cancel()
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def busy(self, reason: str) -> QueueFull:
        tickets = [*self._waiting, *self._running]
        samples = sum(len(ticket.job.seeds) for ticket in tickets)
        seconds = max(1, math.ceil(samples * self._seconds_per_sample))
        return QueueFull(reason, retry_after=seconds)

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                self._running = self._take()
                await self._run(self._running)
                self._running = []

    def _take(self) -> list[_Ticket]:
        """The first request, and those that may join it."""
        first = self._waiting.popleft()
        tickets = [first]
        room = self._engine.together - len(first.job.seeds)
        for ticket in list(self._waiting):
            count = len(ticket.job.seeds)
            if ticket.job.image.shape == first.job.image.shape and count <= room:
                self._waiting.remove(ticket)
                tickets.append(ticket)
                room -= count
        return tickets

    async def _run(self, tickets: list[_Ticket]) -> None:
        outcomes: Sequence[RGB | WorkerError]
        try:
            outcomes = await self._samples([ticket.job for ticket in tickets])
        except Exception as error:  # noqa: BLE001  one request must not end the worker
            if len(tickets) > 1 and not isinstance(error, ClientGone):
                # One bad image may have failed them all.
                for ticket in tickets:
                    await self._run([ticket])
                return
            outcomes = [_reported(error)] * len(tickets)
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            ticket.settle(outcome)

    async def _samples(self, jobs: list[SampleRequest]) -> list[RGB]:
        samples = sum(len(job.seeds) for job in jobs)
        started = time.monotonic()
        results = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._engine.samples_of, jobs
        )
        seconds = (time.monotonic() - started) / samples
        self._seconds_per_sample += _NEWEST * (seconds - self._seconds_per_sample)
        self._metrics.batch.observe(samples)
        self._metrics.seconds.observe(seconds)
        self._metrics.samples.inc(samples)
        if [len(result) for result in results] != [len(job.seeds) for job in jobs]:
            raise ModelFailed("the model gave another number of samples than it was asked for")
        return results


def _reported(error: Exception) -> WorkerError:
    """The error as clients may see it."""
    if isinstance(error, WorkerError):
        return error
    logging.getLogger(__name__).error("the model failed", exc_info=error)
    reported = ModelFailed(f"the model failed: {type(error).__name__}: {error}")
    reported.__cause__ = error
    return reported
