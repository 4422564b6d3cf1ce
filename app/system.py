"""Cores, memory and threads that this process may use."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_limit(cgroups: Path = _CGROUPS, own_group: Path = _OWN_GROUP) -> int | None:
    """The smallest limit in bytes of the control groups and of the machine; None: unknown."""
    limits = [machine] if (machine := _machine_memory()) else []
    for file in _limit_files(cgroups, own_group):
        with suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(file.read_text()))
    return min(limits, default=None)


def _limit_files(cgroups: Path, own_group: Path) -> list[Path]:
    """Files of limits of the own group and those above it, for both versions of control groups."""
    files = []
    with suppress(OSError):
        for line in own_group.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            if number != "0" and "memory" not in controllers.split(","):
                continue
            root = cgroups if number == "0" else cgroups / "memory"
            group = root / path.strip("/")
            # Inside a container the own group is the root, whatever its path outside.
            within = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
            files += [folder / name for folder in within]
    return files


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def plain_environment() -> dict[str, str]:
    """The environment, without secrets, for a child process that imports our modules."""
    kept = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    return {
        **{name: value for name, value in os.environ.items() if name in kept},
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONSAFEPATH": "1",
    }


def score_threads() -> int:
    """Threads for one score: more would gain little, and each holds its own strips."""
    return min(usable_cores(), 4)


@contextmanager
def score_cores(
    name: str,
) -> Iterator[Callable[[Callable[[int], Result], range], Iterator[Result]]]:
    """`map` over numbers in `score_threads`: results come in order, few in advance."""
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
    """A task that runs beside the body, and is cancelled at its end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio would log it


async def shielded(
    function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """`asyncio.to_thread` that, when cancelled, waits for the thread's end before it raises.

    Until then the thread's memory is in use, so its slot must stay taken. Afterwards the thread
    holds nothing: a pool's thread keeps its last call until it runs again, which on a busy machine
    would add a decoded sample to what the request was admitted with.
    """
    given = [(args, kwargs)]
    del args, kwargs

    def call() -> Result:
        positional, named = given.pop()
        return function(*positional, **named)

    task = asyncio.ensure_future(asyncio.to_thread(call))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:  # once, or again and again
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()
