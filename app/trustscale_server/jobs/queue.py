"""The queue of jobs: they are submitted, cancelled and run.

`run` requeues coordinators and webhooks at once when it stops, other work after the drain time, and
renews the leases of what runs until then, which docket does not (`dockets.py`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final, Self, get_args

from trustscale_server.jobs.clients import BACK_S, ClientTurns
from trustscale_server.jobs.coordinator import Coordinator
from trustscale_server.jobs.dockets import Dockets
from trustscale_server.jobs.handler import FanOut, Handler
from trustscale_server.jobs.supervisor import Supervisor
from trustscale_server.jobs.tasks import OnEnd, TaskRetryPolicy, TaskRunner
from trustscale_server.jobs.webhooks import delivery_of
from trustscale_server.platform.errors import ConfigError
from trustscale_server.platform.tasks import beside
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.platform.telemetry.traces import context, span
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import Job, JobKind, JobState, JobStatus
from trustscale_server.stores.jobs import JobStore
from trustscale_server.stores.redis_errors import redis_errors

SEND_S: Final = 10.0

log = logging.getLogger(__name__)


def check_queue_url(url: str) -> None:
    """Raise ConfigError if a URL cannot be that of a queue; connects nothing."""
    if url.startswith(("redis://", "rediss://")):
        from trustscale_server.stores.redis import check_url  # noqa: PLC0415 - only where Redis is used

        check_url(url, "queue")
    elif not url.startswith("memory:"):
        raise ConfigError("A queue URL starts with memory:// or redis:// or rediss://.")


async def _nothing(_: JobStatus) -> None:
    """The default `on_end`."""


class JobQueue:
    """Carries jobs from where they are created to where they are run.

    ::

        async with JobQueue("redis://…", stores.jobs) as queue:
            await queue.submit(job)                                      # a gateway
            await queue.run({"calibration": calibrate}, stop=event)      # a worker; or both

    `memory://` carries jobs inside one process, and is opened for the first. `on_end` is called,
    perhaps more than once, with the status of every job that ended here.
    """

    def __init__(
        self,
        url: str,
        jobs: JobStore,
        *,
        lease_s: float = 20.0,
        metrics: Metrics | None = None,
        on_end: OnEnd = _nothing,
        policy: TaskRetryPolicy = TaskRetryPolicy(),  # noqa: B008 - immutable
        answer_s: float = 2.0,
    ) -> None:
        check_queue_url(url)
        self._dockets = Dockets(url, lease_s=lease_s, answer_s=answer_s)
        self.owner = self._dockets.owner
        self._jobs = jobs
        self.lease_s = lease_s
        self._metrics = metrics or Metrics()
        self._on_end = on_end
        self._policy = policy

    async def __aenter__(self) -> Self:
        if not self._dockets.is_memory:
            await self.open()
        return self

    async def open(self) -> None:
        """Load the queue's program, which may take seconds, and connect, once."""
        await self._dockets.open()

    async def __aexit__(self, *_: object) -> None:
        await self._dockets.close()

    async def probe(self) -> None:
        """Raise StoreUnavailable unless jobs can be queued now."""
        await self._dockets.probe()

    async def living(self) -> set[str] | None:
        """Return the living workers, or None if they are not known."""
        return await self._dockets.living()

    async def submit(self, job: Job) -> JobStatus:
        """Store a job and queue it; if the id exists, return the stored one.

        A stored job will run: if the queue is unavailable, a worker sends it later. Raises
        StoreUnavailable.
        """
        with span("submit", {"trustscale.job_kind": job.kind}, kind="producer"):
            stored = await self._jobs.create(job.model_copy(update={"trace": context()}))
            await self._send_now(stored)
            return stored

    async def resume(self, job_id: str) -> JobStatus:
        """Queue a job that awaited labels again. Raises NotFound."""
        job = await self._jobs.resume(job_id)
        await self._send_now(job)
        return job

    async def cancel(self, job_id: str) -> JobStatus:
        """Ask for the cancellation of a job, wherever it runs. Raises NotFound."""
        job = await self._jobs.request_cancel(job_id)
        if job.cancel_requested or job.state is JobState.CANCELLED:
            await self._announce(job, JobState.CANCELLED)
        if job.state is JobState.CANCELLED:
            with suppress(StoreUnavailable):
                await self._on_end(job)
        return job

    async def run(
        self,
        handlers: Mapping[JobKind, Handler | FanOut],
        *,
        stop: asyncio.Event,
        concurrency: Mapping[JobKind, int] | None = None,
        drain_s: float = 20.0,
        unfinished: bool = True,
    ) -> None:
        """Run jobs of the kinds that have a handler, until `stop` is set and the work has ended.

        concurrency: jobs of a kind (of a FanOut: tasks) at once in this process, by default 1.
        unfinished: also run older jobs of the store.
        """
        await self.open()
        # Finished work waits for the store for longer than its restart takes.
        limits = {"patience_s": 120.0, "lease_s": self.lease_s}
        supervisor = Supervisor(self._jobs, **limits)
        waiting = Supervisor(self._jobs, **limits)  # of work that loses nothing when requeued
        slots = concurrency or {}
        async with AsyncExitStack() as stack:
            loops = {
                name: await stack.enter_async_context(self._dockets.loop(name, number))
                for name, number in self._prepare(handlers, slots, supervisor, waiting)
            }
            if unfinished:
                loops["unfinished jobs"] = asyncio.create_task(self._send_unfinished_for_ever())
            stopped = asyncio.create_task(stop.wait())
            try:
                # A loop ends by itself only through a bug, which is raised below.
                tasks = {*loops.values(), stopped}
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped.cancel()
                waiting.interrupt()
                for loop in loops.values():
                    loop.cancel()
                async with beside(self._dockets.renew_leases(loops)):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(drain_s):
                            await self._dockets.until_ended(loops)
                    supervisor.interrupt()
                    await self._dockets.until_ended(loops)
                outcomes = await asyncio.gather(*loops.values(), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    @asynccontextmanager
    async def running(
        self,
        handlers: Mapping[JobKind, Handler | FanOut],
        *,
        concurrency: Mapping[JobKind, int],
        drain_s: float,
        unfinished: bool = True,
    ) -> AsyncIterator[asyncio.Task[None]]:
        """`run` beside the body; at its end unfinished work goes back to the queue."""
        stop = asyncio.Event()
        worker = asyncio.create_task(
            self.run(
                handlers,
                stop=stop,
                concurrency=concurrency,
                drain_s=drain_s,
                unfinished=unfinished,
            )
        )
        try:
            yield worker
        finally:
            stop.set()
            await worker

    def _prepare(
        self,
        handlers: Mapping[JobKind, Handler | FanOut],
        slots: Mapping[JobKind, int],
        supervisor: Supervisor,
        waiting: Supervisor,
    ) -> Iterable[tuple[str, int]]:
        """Register the work of each queue; return the queues to work on, with their slots."""
        if sum(isinstance(handler, FanOut) for handler in handlers.values()) > 1:
            raise ValueError("the task queue serves one kind of job")
        runner, light = (
            TaskRunner(
                jobs=self._jobs,
                supervisor=supervised_by,
                metrics=self._metrics,
                owner=self.owner,
                living=self.living,
                policy=self._policy,
                announce=self._announce,
                on_end=self._on_end,
            )
            for supervised_by in (supervisor, waiting)
        )
        serve = self._dockets.serve
        for kind, handler in handlers.items():
            if isinstance(handler, FanOut):
                coordinator = Coordinator(runner, waiting, self._send_tasks, resend_s=self.lease_s)
                serve("task", partial(runner.run_task, fan_out=handler))
                serve(kind, partial(coordinator.run, fan_out=handler))
                yield "task", slots.get(kind, 1)
                # Coordinators only wait; this bounds the calibrations of one worker.
                yield kind, 32
            else:
                run = partial((light if kind == "webhook" else runner).run_job, handler=handler)
                serve(kind, self._in_turn(kind, run) if kind == "upscale" else run)
                yield kind, slots.get(kind, 1)

    def _in_turn(
        self, kind: JobKind, run: Callable[[str], Awaitable[float | None]]
    ) -> Callable[[str], Awaitable[float | None]]:
        turns = ClientTurns(partial(self._jobs.pending, kind), time.monotonic)

        async def run_in_turn(job_id: str) -> float | None:
            with suppress(StoreUnavailable):  # `run` waits for it
                if await turns.lets_pass(job_id):
                    return BACK_S
            return await run(job_id)

        return run_in_turn

    async def _announce(self, job: JobStatus, state: JobState) -> None:
        """Queue the webhook for the end of a job, if requested; idempotent."""
        if delivery := delivery_of(job, state):
            await self.submit(delivery)

    async def _send_now(self, job: JobStatus) -> None:
        if not job.state.is_final:
            async with _later("A job is queued", SEND_S):
                await self._send_jobs([job])

    async def _send_jobs(self, jobs: Sequence[JobStatus]) -> None:
        for kind in get_args(JobKind):
            await self._dockets.send(kind, [(job.id,) for job in jobs if job.kind == kind])

    async def _send_tasks(self, job_id: str, tasks: Sequence[str]) -> None:
        async with _later("Tasks are sent", SEND_S):
            await self._dockets.send("task", [(job_id, task) for task in tasks])

    async def _send_unfinished_for_ever(self) -> None:
        while True:
            async with _later("Unfinished jobs are sent", self.lease_s):
                await self._send_jobs(await self._jobs.unfinished())
            await asyncio.sleep(self.lease_s / 2)


async def run_until_signalled(
    queue: JobQueue,
    handlers: Mapping[JobKind, Handler | FanOut],
    *,
    concurrency: Mapping[JobKind, int] | None = None,
    drain_s: float = 20.0,
) -> None:
    """Run `JobQueue.run` until SIGTERM or SIGINT; the process ends if it stands still."""
    from trustscale_server.jobs.liveness import ended_when_frozen  # noqa: PLC0415 - imports redis-py

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await queue.open()  # no lease is held before
        async with ended_when_frozen(queue.lease_s):
            await queue.run(handlers, stop=stop, concurrency=concurrency, drain_s=drain_s)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _later(event: str, within_s: float) -> AsyncIterator[None]:
    """Give up on an unavailable queue: the next round sends the rest."""
    try:
        async with redis_errors(within_s):
            yield
    except StoreUnavailable as error:
        log.warning("%s later: %s", event, error.detail)
