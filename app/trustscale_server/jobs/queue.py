"""The queue: docket runs jobs and their tasks.

Four queues
    `upscale`, `calibration` and `webhook` carry jobs, `task` the tasks of calibrations. Each has
    its own slots in a worker, so queued pairs delay no upscaling, and coordinators take no slots of
    their pairs.

Leases
    docket keeps a message pending until its task ends. When a worker renews no leases, another
    takes its messages over, after the lease and at most a third more.

Stopping
    `run` requeues coordinators and webhooks at once, other work after the drain time, and renews
    the leases of what runs until then, which docket does not.

Trust
    docket unpickles what it reads. A client that can write to this Redis can run code in the
    workers: it must be private and have a password.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self, get_args
from uuid import uuid4

from trustscale_server.jobs.clients import BACK_S, ClientTurns
from trustscale_server.jobs.coordinator import Coordinator
from trustscale_server.jobs.supervisor import Supervisor
from trustscale_server.jobs.tasks import (
    FanOut,
    Handler,
    OnEnd,
    TaskRetryPolicy,
    TaskRunner,
)
from trustscale_server.jobs.webhooks import delivery_of, log
from trustscale_server.platform.errors import ConfigError
from trustscale_server.platform.tasks import beside
from trustscale_server.platform.telemetry.signals import Metrics, context, span
from trustscale_server.stores.base import (
    Job,
    JobKind,
    JobState,
    JobStatus,
    JobStore,
    StoreUnavailable,
)
from trustscale_server.stores.documents import redis_errors

if TYPE_CHECKING:
    from docket import Docket

QUEUES: Final = (*get_args(JobKind), "task")

# Coordinators only wait; this bounds the calibrations of one worker.
_COORDINATORS: Final = 32

# How soon docket sees a message and a free slot.
_POLL: Final = timedelta(milliseconds=50)

_RECONNECT: Final = timedelta(seconds=2)

# How often docket looks for delayed tasks.
_LATER: Final = timedelta(seconds=0.5)

SEND_S: Final = 10.0

# Of one queue that a process renews at once.
_MAX_LEASES: Final = 1000
_CANCEL_AGAIN_S: Final = 1.0

# How long finished work waits for the store: longer than its restart.
_INSIST_S: Final = 120.0


def check_queue_url(url: str) -> None:
    """Raise ConfigError if a URL cannot be that of a queue; connects nothing."""
    if url.startswith(("redis://", "rediss://")):
        from trustscale_server.stores.redis import check_url  # noqa: PLC0415 - only where Redis is used

        check_url(url, "queue")
    elif not url.startswith("memory:"):
        raise ConfigError("A queue URL starts with memory:// or redis:// or rediss://.")


async def _nothing(_: JobStatus) -> None:
    """The default `on_end`."""


class _AtWork:
    """What this process works on, by queue and key of a job or task."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str], asyncio.Event] = {}

    def on_any_of(self, queue: str) -> bool:
        return any(queue == other for other, _ in self._ends)

    @asynccontextmanager
    async def once(self, queue: str, key: str) -> AsyncIterator[bool]:
        """Whether to run this; if this process runs it already, wait for that."""
        if end := self._ends.get((queue, key)):
            await end.wait()
            yield False
            return
        self._ends[queue, key] = end = asyncio.Event()
        try:
            yield True
        finally:
            del self._ends[queue, key]
            end.set()


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
        self._url = url
        self._jobs = jobs
        self.lease_s = lease_s
        self._metrics = metrics or Metrics()
        self._on_end = on_end
        self._is_memory = url.startswith("memory:")
        self._policy = policy
        self._answer_s = answer_s
        self.owner = f"{socket.gethostname()}#{os.getpid()}#{uuid4().hex[:12]}".replace(" ", "-")
        self._dockets: dict[str, Docket] = {}
        self._opening = asyncio.Lock()
        self._at_work = _AtWork()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if not self._is_memory:
            await self.open()
        return self

    async def open(self) -> None:
        """Load the queue's program, which may take seconds, and connect, once."""
        async with self._opening:
            if self._dockets:
                return
            from docket import Docket  # noqa: PLC0415 - slow to import

            from trustscale_server.jobs.liveness import report_lost_connections  # noqa: PLC0415 - as above

            report_lost_connections()
            for name in QUEUES:
                docket = Docket(
                    name=f"trustscale:queue:{name}",
                    url=self._url,
                    execution_ttl=timedelta(0),
                    # A worker must count as dead before its messages are taken over.
                    heartbeat_interval=timedelta(seconds=min(2.0, self.lease_s / 12)),
                )
                docket.register(_elsewhere, names=[name])
                self._dockets[name] = await self._stack.enter_async_context(docket)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def probe(self) -> None:
        """Raise StoreUnavailable unless jobs can be queued now."""
        if self._is_memory:
            return
        try:
            async with redis_errors(self._answer_s), self._dockets["upscale"].redis() as redis:
                await redis.exists("trustscale:queue")
        except StoreUnavailable as error:
            raise StoreUnavailable(f"The queue's {error.detail}") from error

    async def submit(self, job: Job) -> JobStatus:
        """Store a job and queue it; if the id exists, return the stored one.

        A stored job will run: if the queue is unavailable, a worker sends it later. Raises
        StoreUnavailable.
        """
        with span("submit", {"trustscale.job_kind": job.kind}, kind="producer"):
            stored = await self._jobs.create(job.model_copy(update={"trace": context()}))
            if not stored.state.is_final:
                async with _later("A job is queued", SEND_S):
                    await self._send_jobs([stored])
            return stored

    async def resume(self, job_id: str) -> JobStatus:
        """Queue a job that awaited labels again. Raises NotFound."""
        job = await self._jobs.resume(job_id)
        if not job.state.is_final:
            async with _later("A job is queued", SEND_S):
                await self._send_jobs([job])
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

    async def _announce(self, job: JobStatus, state: JobState) -> None:
        """Queue the webhook for the end of a job, if requested; idempotent."""
        if delivery := delivery_of(job, state):
            await self.submit(delivery)

    async def living(self) -> set[str] | None:
        """Return the living workers, or None if they are not known."""
        if self._is_memory:
            return {self.owner}
        try:
            async with redis_errors(self._answer_s):
                by_docket = [await docket.workers() for docket in self._dockets.values()]
        except StoreUnavailable:
            return None
        return {worker.name for workers in by_docket for worker in workers}

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
        limits = {"patience_s": _INSIST_S, "lease_s": self.lease_s}
        supervisor = Supervisor(self._jobs, **limits)
        waiting = Supervisor(self._jobs, **limits)  # of work that loses nothing when requeued
        slots = concurrency or {}
        async with AsyncExitStack() as stack:
            loops = {
                name: await stack.enter_async_context(self._looped(name, most))
                for name, most in self._prepare(handlers, slots, supervisor, waiting)
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
                async with beside(self._renew_leases(self._dockets.keys() & loops)):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(drain_s):
                            await self._until_ended(loops)
                    supervisor.interrupt()
                    await self._until_ended(loops)
                outcomes = await asyncio.gather(*loops.values(), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _renew_leases(self, names: Iterable[str]) -> None:
        """Renew, again and again, the leases of all that this process works on."""
        if self._is_memory:
            return
        while True:
            await asyncio.sleep(self.lease_s / 4)
            for docket in [self._dockets[name] for name in names]:
                group = docket.stream_key, docket.worker_group_name
                with suppress(StoreUnavailable):
                    async with redis_errors(self._answer_s), docket.redis() as redis:
                        pending = await redis.xpending_range(
                            *group, "-", "+", _MAX_LEASES, consumername=self.owner
                        )
                        if mine := [message["message_id"] for message in pending]:
                            await redis.xclaim(*group, self.owner, 0, mine, idle=0, justid=True)

    async def _until_ended(self, loops: Mapping[str, asyncio.Task[None]]) -> None:
        """Wait for cancelled loops.

        An idle one is cancelled again, but not one that drains work: Python 3.11 loses a
        cancellation that meets the end of a write of redis-py.
        """
        while running := [name for name, loop in loops.items() if not loop.done()]:
            await asyncio.wait([loops[name] for name in running], timeout=_CANCEL_AGAIN_S)
            for name in running:
                if not self._at_work.on_any_of(name):
                    loops[name].cancel()

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
        for kind, handler in handlers.items():
            if isinstance(handler, FanOut):
                send = self._send_tasks
                coordinator = Coordinator(runner, waiting, send, resend_s=self.lease_s)
                self._serve("task", partial(runner.one, fan_out=handler))
                self._serve(kind, partial(coordinator.run, fan_out=handler))
                yield "task", slots.get(kind, 1)
                yield kind, _COORDINATORS
            else:
                whole = partial((light if kind == "webhook" else runner).whole, handler=handler)
                self._serve(kind, self._in_turn(kind, whole) if kind == "upscale" else whole)
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

    def _serve(self, name: str, run: Callable[..., Awaitable[float | None]]) -> None:
        docket = self._dockets[name]

        async def do(job_id: str, task_name: str = "") -> None:
            task = (job_id, task_name) if task_name else (job_id,)
            key = _key(task)
            async with self._at_work.once(name, key) as is_first:
                if is_first and (seconds := await run(*task)) is not None:
                    # Instead of waiting for the lease to expire.
                    when = datetime.now(UTC) + timedelta(seconds=seconds)
                    await docket.replace(name, when, key)(*task)

        docket.register(do, names=[name])

    @asynccontextmanager
    async def _looped(self, name: str, slots: int) -> AsyncIterator[asyncio.Task[None]]:
        from docket import Worker  # noqa: PLC0415 - as above

        worker = Worker(
            self._dockets[name],
            name=self.owner,
            concurrency=slots,
            redelivery_timeout=timedelta(seconds=self.lease_s),
            reconnection_delay=_RECONNECT,
            minimum_check_interval=_POLL,
            scheduling_resolution=_LATER,
            schedule_automatic_tasks=False,
        )
        async with worker:
            yield asyncio.create_task(worker.run_forever(), name=f"queue {name}")

    async def _send_jobs(self, jobs: Sequence[JobStatus]) -> None:
        for kind in get_args(JobKind):
            await self._send(kind, [(job.id,) for job in jobs if job.kind == kind])

    async def _send_tasks(self, job_id: str, tasks: Sequence[str]) -> None:
        async with _later("Tasks are sent", SEND_S):
            await self._send("task", [(job_id, task) for task in tasks])

    async def _send(self, name: str, tasks: Sequence[tuple[str, ...]]) -> None:
        if tasks:
            await self.open()
            docket = self._dockets[name]
            await docket.add_many([docket.call(name, key=_key(task))(*task) for task in tasks])

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


def _key(task: tuple[str, ...]) -> str:
    """The queue's key of a job or a task."""
    return ":".join(task)


async def _elsewhere(job_id: str, task: str = "") -> None:
    """Placeholder for the handler in a process that only sends."""
    raise NotImplementedError(job_id, task)


@asynccontextmanager
async def _later(what: str, within_s: float) -> AsyncIterator[None]:
    """Give up on an unavailable queue: the next round sends the rest."""
    try:
        async with redis_errors(within_s):
            yield
    except StoreUnavailable as error:
        log.warning("%s later: %s", what, error.detail)
