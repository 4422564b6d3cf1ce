"""Waiting for what has no event, as long as a slow machine needs and no longer."""

import asyncio
import time

# Only a test that would fail anyway waits so long.
PATIENCE_S = 120.0


async def until(condition):
    """Return when the condition holds; the loop goes on meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def cancelled(task, has_begun):
    """Cancel a task once this holds, and see that it ends so."""
    await until(has_begun)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def block_until(condition):
    """Return when the condition holds; where no loop runs."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
