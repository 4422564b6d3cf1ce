"""What this process may use of its machine: cores, memory, threads, and programs beside it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on; in a container they may be fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_limit(cgroups: Path = _CGROUPS, own_group: Path = _OWN_GROUP) -> int | None:
    """Bytes: the smallest limit of the control groups above this process and of the machine.

    None where the system tells neither.
    """
    limits = [machine] if (machine := _machine_memory()) else []
    for file in _limit_files(cgroups, own_group):
        with suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(file.read_text()))
    return min(limits, default=None)


def _limit_files(cgroups: Path, own_group: Path) -> list[Path]:
    """The files that may hold a limit: of the own group and those above it, in both versions."""
    files = []
    with suppress(OSError):
        for line in own_group.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            if number != "0" and "memory" not in controllers.split(","):
                continue
            root = cgroups if number == "0" else cgroups / "memory"
            group = root / path.strip("/")
            # A container sees its own group as the root, whatever its path is outside.
            within = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
            files += [folder / name for folder in within]
    return files


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def plain_environment() -> dict[str, str]:
    """The environment of a program of our own that needs no secret: it finds the same modules."""
    kept = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    return {
        **{name: value for name, value in os.environ.items() if name in kept},
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONSAFEPATH": "1",
    }


def score_threads() -> int:
    """Threads that make one score: more would gain little, and each holds strips of its own."""
    return min(usable_cores(), 4)


@contextmanager
def score_cores(
    name: str,
) -> Iterator[Callable[[Callable[[int], Result], range], Iterator[Result]]]:
    """`map` of some numbers in `score_threads`: results come in order, few wait to be taken."""
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


async def shielded(
    function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """`asyncio.to_thread` that, when cancelled, waits for the thread's end before it raises.

    Until then what the thread holds is in use: the slot that pays for it must not be given back.
    When it has answered it holds nothing: a thread of a pool keeps its last call until it is awake
    again, which on a busy machine would add a decoded sample to what a request was counted with.
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
