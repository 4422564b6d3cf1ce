"""The cores of this process, and how many of them work on σ."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def usable_cores() -> int:
    """Return how many cores this process can keep busy: those it may run on, or else their quota.

    A part of a core counts as one. More threads would use up the quota early in each period of a
    tenth of a second, and all of them would then stand still until the next.
    """
    quota = core_quota()
    return cores() if quota is None else max(1, min(cores(), math.ceil(quota)))


def core_quota(cgroups: Path = _CGROUPS, own_group: Path = _OWN_GROUP) -> float | None:
    """Return how many cores' time the control groups leave; None: there is no quota."""
    quotas = []
    folders = {cgroups, cgroups / "cpu"}
    with suppress(OSError):
        for line in own_group.read_text().splitlines():
            group = cgroups / line.split(":", 2)[2].strip("/")
            folders |= {
                folder for folder in (group, *group.parents) if folder.is_relative_to(cgroups)
            }
    for folder in folders:
        with suppress(OSError, ValueError):  # "max" is none
            time, period = (folder / "cpu.max").read_text().split()
            quotas.append(int(time) / int(period))
        with suppress(OSError, ValueError):
            time = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
            quotas += [int(time) / int(period)] if int(time) > 0 else []
    return min(quotas, default=None)


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
) -> Iterator[Callable[[Callable[[int], T], range], Iterator[T]]]:
    """Return a `map` over numbers in `score_threads`; results come in order, few in advance."""
    number_of_threads = score_threads()

    with ThreadPoolExecutor(number_of_threads, name) as threads:

        def mapped(function: Callable[[int], T], numbers: range) -> Iterator[T]:
            begun: deque[Future[T]] = deque()
            for number in numbers:
                begun.append(threads.submit(function, number))
                if len(begun) > 2 * number_of_threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()

        yield mapped
