"""Cores, threads and asyncio tasks of this process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plain_environment() -> dict[str, str]:
    """Return the environment, without secrets, for a child process that imports our modules."""
    harmless = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    return {
        **{name: value for name, value in os.environ.items() if name in harmless},
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONSAFEPATH": "1",
    }


def score_threads() -> int:
    """Return how many threads make one score; more would gain little and cost memory."""
    return min(usable_cores(), 4)


@contextmanager
def score_cores(
    name: str,
) -> Iterator[Callable[[Callable[[int], Result], range], Iterator[Result]]]:
    """Return a `map` over numbers in `score_threads`; results come in order, few in advance."""
    most = score_threads()

    with ThreadPoolExecutor(most, name) as threads:

        def each(function: Callable[[int], Result], numbers: range) -> Iterator[Result]:
            begun: deque[Future[Result]] = deque()
            for number in numbers:
                begun.append(threads.submit(function, number))
                if len(begun) > 2 * most:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()

        yield each


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, Result]) -> AsyncIterator[asyncio.Task[Result]]:
    """Run a task beside the body, and cancel it at the body's end.

    A frame that names what holds its own exception lives, with all that it holds, until the
    collector of circles comes: this one names neither at its end, and the body's should not.
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


async def side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run awaitables side by side; the first failure cancels the others, and is raised.

    After a failure `asyncio.TaskGroup` holds, in a circle, all that its callers' frames name.
    """
    tasks = [asyncio.create_task(work) for work in works]
    first, cancelled = set[asyncio.Task[None]](), None
    try:
        try:
            first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                cancelled = await _ended(task) or cancelled
                _ = task.cancelled() or task.exception()  # retrieved, or asyncio would log it
        if cancelled is not None:
            raise cancelled
        for task in first:
            task.result()
    finally:
        del tasks, task, first, cancelled  # as in `beside`


async def shielded(
    function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """Run `asyncio.to_thread`; if cancelled, wait for the thread's end before raising.

    Until then the thread's memory is in use, so its slot must stay taken. Afterwards the thread
    holds nothing: a pool's thread keeps its last call until it runs again, which on a busy machine
    would add a decoded sample to what the request was admitted with.
    """
    given = [(args, kwargs)]
    del args, kwargs

    def call() -> Result:
        positional, named = given.pop()
        return function(*positional, **named)

    return await to_its_end(asyncio.to_thread(call))


async def to_its_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Await work to its end, even if this is cancelled; that is raised afterwards."""
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
    """Wait for the end of a task; what cancelled this meanwhile, once or again and again."""
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
