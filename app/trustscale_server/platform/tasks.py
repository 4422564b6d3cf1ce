"""asyncio tasks beside a body, side by side, and to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run a task beside the body, and cancel it at the body's end.

    The task is dropped at the end: its error holds this frame, and a frame that holds the task
    would keep all its arrays until garbage collection. The body should drop its reference, too.
    """
    task = asyncio.create_task(work)
    cancelled = None
    try:
        yield task
    finally:
        task.cancel()
        cancelled = await _ended(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio would log it
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del task, cancelled


Start: TypeAlias = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]
"""Starts work once there is room for it."""


@asynccontextmanager
async def few_at_once(limit: int = 4) -> AsyncIterator[Start]:
    """Run calls side by side, a few at a time; the first error ends all and is raised."""
    running: set[asyncio.Task[None]] = set()

    async def until_at_most(count: int) -> None:
        nonlocal running
        while len(running) > count:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def start(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        running.add(task)
        await until_at_most(limit - 1)

    try:
        yield start
        await until_at_most(0)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def side_by_side(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines side by side; the first failure cancels the others, and is raised.

    `asyncio.TaskGroup` is no choice: after a failure its own frame–exception cycle would keep all
    that the callers' frames name.
    """
    tasks = [asyncio.create_task(work) for work in coroutines]
    ended, cancelled = set[asyncio.Task[None]](), None
    try:
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                cancelled = await _ended(task) or cancelled
                _ = task.cancelled() or task.exception()  # retrieved, or asyncio would log it
        if cancelled is not None:
            raise cancelled
        for task in ended:
            task.result()
    finally:
        del tasks, task, ended, cancelled  # as in `beside`


async def shielded(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `asyncio.to_thread`; if cancelled, wait for the thread's end before raising.

    Until then the thread's memory is in use, so its slot must stay taken. Afterwards the thread
    holds nothing: a pool's thread keeps its last call until it runs again, which on a busy machine
    would add a decoded sample to what the request was admitted with.
    """
    arguments = [(args, kwargs)]
    del args, kwargs

    def call() -> T:
        positional, named = arguments.pop()
        return function(*positional, **named)

    return await to_its_end(asyncio.to_thread(call))


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end, even if this is cancelled; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = None
    try:
        cancelled = await _ended(task)
        if cancelled is not None:
            raise cancelled
        return task.result()
    finally:
        del task, cancelled  # as in `beside`


async def _ended(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until a task has ended; return the last cancellation that came while waiting."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    try:
        return cancelled
    finally:
        del cancelled  # as in `beside`
