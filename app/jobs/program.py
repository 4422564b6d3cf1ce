"""Job workers as a program of their own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping

from app.jobs.handlers import FanOut, Handler
from app.jobs.queue import JobQueue
from app.stores.base import JobKind


async def run_until_signalled(
    queue: JobQueue,
    handlers: Mapping[JobKind, Handler | FanOut],
    *,
    concurrency: Mapping[JobKind, int] | None = None,
    drain_s: float = 20.0,
) -> None:
    """`JobQueue.run`, which SIGTERM and SIGINT stop in an orderly way."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await queue.run(handlers, stop=stop, concurrency=concurrency, drain_s=drain_s)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
