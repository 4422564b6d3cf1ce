from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from app.upscalers.fair import Closed, FairThreads


class Parts:
    """Parts that note in which order they are done; the first one waits until the test lets it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def of(self, name: str, count: int) -> list:
        return [lambda: self.do(name)] * count

    def do(self, name: str) -> None:
        self.begun.set()
        assert self.go_on.wait(60)
        self.done.append(name)


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def threads():
    threads = FairThreads(1, "test")
    yield threads
    threads.close()


async def first(threads: FairThreads, parts: Parts, name: str, count: int, cost: int):
    """A request whose first part is being done."""
    task = asyncio.create_task(threads.run(name, parts.of(name, count), cost))
    await asyncio.to_thread(parts.begun.wait, 60)
    return task


async def test_in_turn_and_small_first(threads, parts):
    """Who comes later waits for one part; the smallest goes first, large ones take turns."""
    large = await first(threads, parts, "large", 5, 9)
    others = [
        asyncio.create_task(threads.run(name, parts.of(name, count), 9))
        for name, count in (("second", 3), ("small", 1))
    ]
    await asyncio.sleep(0)
    parts.go_on.set()
    await asyncio.gather(large, *others)
    assert parts.done[:3] == ["large", "small", "second"]
    assert parts.done[3:] == ["large", "second", "large", "second", "large", "large"]


async def test_fair_by_size(threads, parts):
    """Large parts count as what they are: a request of small ones has several for each of them."""
    large = await first(threads, parts, "large", 3, 40)
    small = asyncio.create_task(threads.run("small", parts.of("small", 7), 10))
    await asyncio.sleep(0)
    parts.go_on.set()
    await asyncio.gather(large, small)
    shown = "".join(name[0] for name in parts.done)
    assert shown == "lslsssslss"


async def test_several_calls_of_one_request(threads, parts):
    """A request that makes two calls at once has no more than another one."""
    one = await first(threads, parts, "one", 2, 9)
    calls = [
        asyncio.create_task(threads.run(name, parts.of(name, 2), 9)) for name in ("one", "other")
    ]
    await asyncio.sleep(0)
    parts.go_on.set()
    await asyncio.gather(one, *calls)
    assert parts.done[:4].count("other") == 2


async def test_cancelled_after_its_part(threads, parts):
    """A cancelled request returns at once; the part that runs ends, no other one begins."""
    task = await first(threads, parts, "gone", 9, 9)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert not parts.done
    parts.go_on.set()
    await threads.run("next", parts.of("next", 1), 9)
    assert parts.done == ["gone", "next"]


async def test_an_error_ends_the_request(threads, parts):
    """It is raised; what is left of the request is not done, others are."""
    parts.go_on.set()

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await threads.run("one", [fail, *parts.of("one", 3)], 9)
    await threads.run("other", parts.of("other", 1), 9)
    assert parts.done == ["other"]


async def test_close(threads, parts):
    """Closing ends those that wait, and refuses others."""
    task = await first(threads, parts, "one", 2, 9)
    threads.close()
    parts.go_on.set()
    for call in (task, threads.run("late", parts.of("late", 1), 9)):
        with pytest.raises(Closed):
            await call
