"""Work on the parts of one picture in several threads, with results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from trustscale_server.platform.cores import usable_cores

T = TypeVar("T")


def map_threads() -> int:
    """Return how many threads `ordered_map` uses; more would gain little and cost memory."""
    return min(usable_cores(), 4)


@contextmanager
def ordered_map(name: str) -> Iterator[Callable[[Callable[[int], T], range], Iterator[T]]]:
    """Return a `map` over numbers in `map_threads`; results come in order, few in advance.

    name: what the threads are called.
    """
    number_of_threads = map_threads()
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
