"""Work that is done a few at a time."""

import asyncio

import pytest

from trustscale_server.platform.tasks import few_at_once


async def test_so_many_and_no_more():
    running, most, done = 0, 0, []

    async def work(k):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (k % 3))
        running -= 1
        done.append(k)

    async with few_at_once(3) as start:
        for k in range(20):
            await start(work(k))
    assert sorted(done) == list(range(20))
    assert most == 3


async def test_an_error_ends_all():
    """The first one is raised, and what runs is ended before that."""
    waiting = asyncio.get_running_loop().create_future()

    async def fails():
        raise OSError("The disk is full.")

    async def both():
        async with few_at_once(3) as start:
            await start(asyncio.wait_for(waiting, 60))
            await start(fails())

    with pytest.raises(OSError, match="full"):
        await both()
    assert waiting.cancelled()
