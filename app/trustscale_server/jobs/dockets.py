"""The queues of docket, which carry the ids of jobs and tasks; only this module knows docket.

Four queues
    `upscale`, `calibration` and `webhook` carry jobs, `task` the tasks of calibrations. Each has
    its own slots in a worker, so queued pairs delay no upscaling, and coordinators take no slots of
    their pairs.

Leases
    docket keeps a message pending until its task ends. When a worker renews no leases, another
    takes its messages over, after the lease and at most a third more.

Trust
    docket unpickles what it reads. A client that can write to this Redis can run code in the
    workers: it must be private and have a password.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, get_args
from uuid import uuid4

from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import JobKind
from trustscale_server.stores.redis_errors import redis_errors

if TYPE_CHECKING:
    from docket import Docket

QUEUES: Final = (*get_args(JobKind), "task")


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


class Dockets:
    """The queues behind a URL, as this process, `owner`, sees them.

    answer_s: how long their Redis has to say who is there.
    """

    def __init__(self, url: str, *, lease_s: float, answer_s: float) -> None:
        self._url = url
        self.is_memory = url.startswith("memory:")
        self.lease_s = lease_s
        self._answer_s = answer_s
        self.owner = f"{socket.gethostname()}#{os.getpid()}#{uuid4().hex[:12]}".replace(" ", "-")
        self._dockets: dict[str, Docket] = {}
        self._opening = asyncio.Lock()
        self._at_work = _AtWork()
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Load docket, which may take seconds, and connect, once."""
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

    async def close(self) -> None:
        """Disconnect."""
        await self._stack.aclose()

    async def probe(self) -> None:
        """Raise StoreUnavailable unless something can be sent now."""
        if self.is_memory:
            return
        try:
            async with redis_errors(self._answer_s), self._dockets["upscale"].redis() as redis:
                await redis.exists("trustscale:queue")
        except StoreUnavailable as error:
            raise StoreUnavailable(f"The queue's {error.detail}") from error

    async def living(self) -> set[str] | None:
        """Return the living workers, or None if they are not known."""
        if self.is_memory:
            return {self.owner}
        try:
            async with redis_errors(self._answer_s):
                by_docket = [await docket.workers() for docket in self._dockets.values()]
        except StoreUnavailable:
            return None
        return {worker.name for workers in by_docket for worker in workers}

    async def send(self, queue: str, tasks: Sequence[tuple[str, ...]]) -> None:
        """Send jobs, each `(id,)`, or tasks, `(id, task)`; those in the queue change nothing."""
        if tasks:
            await self.open()
            docket = self._dockets[queue]
            await docket.add_many([docket.call(queue, key=_key(task))(*task) for task in tasks])

    def serve(self, queue: str, run: Callable[..., Awaitable[float | None]]) -> None:
        """Run `run` for each message; it returns the seconds until the next time, or None.

        What this process already works on is not begun again.
        """
        docket = self._dockets[queue]

        async def do(job_id: str, task_name: str = "") -> None:
            task = (job_id, task_name) if task_name else (job_id,)
            key = _key(task)
            async with self._at_work.once(queue, key) as is_first:
                if is_first and (seconds := await run(*task)) is not None:
                    # Instead of waiting for the lease to expire.
                    when = datetime.now(UTC) + timedelta(seconds=seconds)
                    await docket.replace(queue, when, key)(*task)

        docket.register(do, names=[queue])

    @asynccontextmanager
    async def loop(self, queue: str, slots: int) -> AsyncIterator[asyncio.Task[None]]:
        """Work on a queue, which `serve` has prepared, in a task that only a cancellation ends."""
        from docket import Worker  # noqa: PLC0415 - as above

        worker = Worker(
            self._dockets[queue],
            name=self.owner,
            concurrency=slots,
            redelivery_timeout=timedelta(seconds=self.lease_s),
            reconnection_delay=timedelta(seconds=2),
            # How soon it sees a message and a free slot.
            minimum_check_interval=timedelta(milliseconds=50),
            # How often it looks for delayed tasks.
            scheduling_resolution=timedelta(seconds=0.5),
            schedule_automatic_tasks=False,
        )
        async with worker:
            yield asyncio.create_task(worker.run_forever(), name=f"queue {queue}")

    async def renew_leases(self, queues: Iterable[str]) -> None:
        """Renew, again and again, the leases of all that this process works on."""
        if self.is_memory:
            return
        while True:
            await asyncio.sleep(self.lease_s / 4)
            for docket in [self._dockets[queue] for queue in queues if queue in self._dockets]:
                group = docket.stream_key, docket.worker_group_name
                with suppress(StoreUnavailable):
                    async with redis_errors(self._answer_s), docket.redis() as redis:
                        pending = await redis.xpending_range(
                            *group, "-", "+", count=1000, consumername=self.owner
                        )
                        if own := [message["message_id"] for message in pending]:
                            await redis.xclaim(*group, self.owner, 0, own, idle=0, justid=True)

    async def until_ended(self, loops: Mapping[str, asyncio.Task[None]]) -> None:
        """Wait for cancelled loops, by their queues.

        An idle one is cancelled again, but not one that drains work: Python 3.11 loses a
        cancellation that meets the end of a write of redis-py.
        """
        while running := [queue for queue, loop in loops.items() if not loop.done()]:
            await asyncio.wait([loops[queue] for queue in running], timeout=1.0)
            for queue in running:
                if not self._at_work.on_any_of(queue):
                    loops[queue].cancel()


def _key(task: tuple[str, ...]) -> str:
    """The queue's key of a job or a task."""
    return ":".join(task)


async def _elsewhere(job_id: str, task: str = "") -> None:
    """Placeholder for the handler in a process that only sends."""
    raise NotImplementedError(job_id, task)
