"""Work of minutes that its caller may leave: threads of its own, and an end."""

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
"""Ends when nobody waits for this task's answer any more; None: somebody always does."""

_unwanted: ContextVar[threading.Event | None] = ContextVar("_unwanted", default=None)


async def in_spare_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what may take minutes in the few threads that all such work shares; others keep theirs.

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
    leaving = caller_leaves.get()
    left: list[asyncio.Future[Any]] = []
    if leaving is not None:
        left.append(asyncio.create_task(leaving()))
    waiting: asyncio.Future[Any]
    try:
        await asyncio.wait([work, *left], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise NoLongerWaiting
        return work.result()
    finally:
        unwanted.set()
        for waiting in (work, *left):
            # An error that nobody waits for is retrieved, or asyncio would log it.
            _ = waiting.cancel() or waiting.cancelled() or waiting.exception()
        del work, left, waiting  # as in `beside`


def check_wanted() -> None:
    """Raise NoLongerWaiting in a thread of `in_spare_thread` whose caller has left."""
    unwanted = _unwanted.get()
    if unwanted is not None and unwanted.is_set():
        raise NoLongerWaiting
