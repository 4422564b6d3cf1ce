"""What keeps a worker alive when its Redis vanishes, and ends one that stands still."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection

# Looks per limit: a suspended process looks once when it goes on, whatever time has passed.
_LOOKS: Final = 10

log = logging.getLogger(__name__)


def report_lost_connections() -> None:
    """Make redis-py notice that the kernel has given up a connection.

    Without a reset, as after the loss of a node, a read ends in ETIMEDOUT. That is a TimeoutError,
    which redis-py 8.1 takes for the end of its caller's time: it answers None, at once, whenever it
    is asked. docket 0.27 asks again without a pause, and the event loop runs nothing else. A write
    is a TypeError of asyncio in Python 3.13.5, and nothing at all in 3.11.
    """
    read = AbstractConnection._read_response_from_parser  # noqa: SLF001 - redis-py has no hook
    send = AbstractConnection.send_packed_command
    if read.__module__ == __name__:
        return

    async def read_or_lose(connection: AbstractConnection, *args: Any, **kwargs: Any) -> Any:
        try:
            return await read(connection, *args, **kwargs)
        except TimeoutError as error:
            if error.errno is None:  # the caller's time is over
                raise
            raise ConnectionAbortedError(error.errno, error.strerror) from error

    async def send_anew(connection: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        writer = connection._writer  # noqa: SLF001 - as above
        if writer is not None and writer.is_closing():
            await connection.disconnect(nowait=True)
        await send(connection, *args, **kwargs)

    AbstractConnection.send_packed_command = send_anew  # type: ignore[assignment,method-assign]
    AbstractConnection._read_response_from_parser = read_or_lose  # type: ignore[assignment,method-assign] # noqa: SLF001


@asynccontextmanager
async def ended_when_frozen(limit_s: float) -> AsyncIterator[None]:
    """End the process when its event loop stands still for longer than this.

    Its leases have run out by then, so others do its work, and whoever started it starts it again.
    The stacks of all threads go to the standard error.
    """
    has_run, ends = threading.Event(), threading.Event()

    async def run() -> None:
        while True:
            has_run.set()
            await asyncio.sleep(limit_s / _LOOKS / 2)

    def look() -> None:
        missed = 0
        while not ends.wait(limit_s / _LOOKS):
            missed = 0 if has_run.is_set() else missed + 1
            has_run.clear()
            if missed >= _LOOKS:
                log.critical("The event loop stands still for %g s; the process ends.", limit_s)
                faulthandler.dump_traceback()
                os._exit(os.EX_SOFTWARE)

    running = asyncio.create_task(run())
    watchdog = threading.Thread(target=look, name="watchdog", daemon=True)
    watchdog.start()
    try:
        yield
    finally:
        running.cancel()
        ends.set()
