"""What an upscaling as a job tells while it runs."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from trustscale_server.platform.errors import Conflict
from trustscale_server.serving.draft import Draft
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


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_draft_grows_by_tiles(depth):
    """What is not made yet is transparent, and no tile comes after the whole sample."""
    sample = np.full((3000, 2000, 3), np.iinfo(depth).max, depth)
    upper = slice(0, 1501), slice(0, 2000)

    def seen(file):
        return np.asarray(Image.open(io.BytesIO(file)).convert("RGBA"))

    draft = Draft(every_s=0)
    half = seen(draft.tile(sample, *upper))
    assert max(half.shape) == 1024
    assert (half[:510] > 250).all()
    assert not half[515:, :, 3].any()
    assert (seen(draft.tile(sample, slice(1501, 3000), slice(0, 2000))) > 250).all()
    assert (seen(draft.whole(sample)) > 250).all()
    assert draft.tile(sample, *upper) is None
    assert Draft(every_s=3600).tile(sample, *upper) is None
