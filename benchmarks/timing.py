"""How long some work takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Result = TypeVar("Result")


class Took(NamedTuple, Generic[Result]):
    """What came of some work; its seconds by the clock, and of the processors in all threads."""

    result: Result
    wall: float
    cpu: float


def timed(work: Callable[[], Result]) -> Took[Result]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Took(result, time.perf_counter() - wall, time.process_time() - cpu)
