"""Work that may take minutes: it has threads of its own, and ends when its caller has left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class NoLongerWaiting(Exception):
    """The caller has stopped waiting."""


_spare = ThreadPoolExecutor(2, thread_name_prefix="spare")

caller_leaves: ContextVar[Callable[[], Coroutine[Any, Any, object]] | None] = ContextVar(
    "caller_leaves", default=None
)
"""Waits until nobody waits for this task's answer any more; None: somebody always does."""

_unwanted: ContextVar[threading.Event | None] = ContextVar("_unwanted", default=None)


async def in_spare_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what may take minutes in the few threads of such work, so that other work keeps its own.

    When the caller leaves, or this is cancelled, work that has not begun never does, and work in
    progress ends at its next `check_wanted`.

    Raises:
        NoLongerWaiting: the caller has left.
    """
    unwanted = threading.Event()
    context = copy_context()
    context.run(_unwanted.set, unwanted)
    work = asyncio.get_running_loop().run_in_executor(
        _spare, partial(context.run, function, *args, **kwargs)
    )
    leaves = caller_leaves.get()
    departure: list[asyncio.Future[Any]] = []
    if leaves is not None:
        departure.append(asyncio.create_task(leaves()))
    waiting: asyncio.Future[Any]
    try:
        await asyncio.wait([work, *departure], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise NoLongerWaiting
        return work.result()
    finally:
        unwanted.set()
        for waiting in (work, *departure):
            # An error that nobody waits for is retrieved, or asyncio would log it.
            _ = waiting.cancel() or waiting.cancelled() or waiting.exception()
        del work, departure, waiting  # as in `beside`


def check_wanted() -> None:
    """Raise NoLongerWaiting in a thread of `in_spare_thread` whose caller has left."""
    unwanted = _unwanted.get()
    if unwanted is not None and unwanted.is_set():
        raise NoLongerWaiting
