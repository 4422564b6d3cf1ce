"""What an upscaling as a job tells while it runs."""

import asyncio

import pytest

from trustscale_server.platform.errors import Conflict
from trustscale_server.serving.job import _reporting


async def test_reports_of_a_slow_store():
    """While one is written, the newest of each subject waits; the last of each is written."""
    written, may_write = [], asyncio.Event()

    def report(what):
        async def write():
            await may_write.wait()
            written.append(what)

        return write

    async with _reporting() as tell:
        for step in range(1000):
            tell("progress", report(step))
            if step % 100 == 0:
                tell("draft", report(f"draft {step}"))
            await asyncio.sleep(0)
        may_write.set()
    assert written == [0, "draft 900", 999]


async def test_an_attempt_that_was_overtaken_ends():
    async def overtaken():
        raise Conflict("It has ended.")

    with pytest.raises(Conflict):
        async with _reporting() as tell:
            tell("progress", overtaken)
