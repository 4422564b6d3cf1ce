"""Answers become samples, or are refused."""

import numpy as np
import pytest
from PIL import Image

from harness.factories import encoded
from harness.pictures import config, sample, source
from trustscale_server.upscalers.alignment import alignment
from trustscale_server.upscalers.failures import WrongSample
from trustscale_server.upscalers.pattern import pattern
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.remote.sample_reader import SampleReader
from trustscale_server.upscalers.remote.upstream import Upstream

URL = "http://127.0.0.1:9"
SOURCE = source()
SAMPLE = sample(SOURCE.rgb, 1)
HOLED = source()
HOLED.rgb[:9, :9] = [255, 0, 255]


@pytest.fixture
async def reader_of():
    opened = []

    def make(**settings):
        made = config(**{"kind": "cog", "scale": 2, "url": URL, **settings})
        opened.append(Upstream(made, URL, {}))
        return SampleReader(made, opened[-1])

    yield make
    for up in opened:
        await up.close()


@pytest.fixture
def reader(reader_of):
    return reader_of()


class TestRead:
    @pytest.mark.parametrize(
        ("kind", "options", "lossy"),
        [("PNG", {}, False), ("WEBP", {"lossless": True}, False), ("JPEG", {"quality": 95}, True),
         ("WEBP", {}, True)],
    )  # fmt: skip
    async def test_files(self, reader, kind, options, lossy):
        got = await reader.read(encoded(SAMPLE, kind, **options), SOURCE, MemoryPermit())
        assert (reader.lossy, np.array_equal(got, SAMPLE)) == (lossy, not lossy)

    async def test_refused(self, reader):
        bomb = encoded(np.zeros((1200, 1200, 3), np.uint8))
        assert len(bomb) < 30_000
        with pytest.raises(WrongSample, match="larger than 96×96"):
            await reader.read(bomb, SOURCE, MemoryPermit())
        with pytest.raises(WrongSample, match="of 48×48 pixels; expected 96×96, 2 times"):
            await reader.read(encoded(SOURCE.rgb), SOURCE, MemoryPermit())

        large = np.asarray(Image.fromarray(SOURCE.rgb).resize((96, 96)))
        with pytest.raises(WrongSample, match="no model has run"):
            await reader.read(encoded(large), SOURCE, MemoryPermit())

    async def test_misaligned(self, reader_of, reader):
        shifted = encoded(np.roll(SAMPLE, 6, 1))
        with pytest.raises(WrongSample, match=r"shifted by \+[56]\.\d pixels horizontally"):
            await reader.read(shifted, SOURCE, MemoryPermit())

    async def test_fit(self, reader_of):
        reader = reader_of(resize_mode="resize")
        other = np.asarray(Image.fromarray(SAMPLE).resize((120, 120)))
        assert (await reader.read(encoded(other), SOURCE, MemoryPermit())).shape == (96, 96, 3)
        with pytest.raises(WrongSample, match="of 120×96"):
            await reader.read(encoded(np.ascontiguousarray(other[:96])), SOURCE, MemoryPermit())


async def test_unchanged_or_shifted(reader_of):
    """An inpainter may send an input without holes back; around holes the input must be kept."""
    with pytest.raises(WrongSample, match="sent the input back unchanged: no model has run"):
        await reader_of(scale=1).examine(SOURCE.rgb, SOURCE)
    reader = reader_of(scale=1, mask_color="#ff00ff")
    assert np.array_equal(await reader.examine(SOURCE.rgb, SOURCE), SOURCE.rgb)
    with pytest.raises(WrongSample, match="unchanged"):
        await reader.examine(HOLED.rgb, HOLED)

    with pytest.raises(WrongSample, match="do not lie on the input"):
        await reader.examine(np.roll(SOURCE.rgb, 5, 1), HOLED)


K = 4
PATTERN = np.tile(pattern(), (2, 2, 1))[:160, :176]
GOOD = sample(PATTERN, 1, K)


def cropped(keep):
    height, width = GOOD.shape[:2]
    h, w = int(height * keep), int(width * keep)
    top, left = (height - h) // 2, (width - w) // 2
    part = Image.fromarray(GOOD[top : top + h, left : left + w])
    return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC))


class TestAlignment:
    @pytest.mark.parametrize("shift", [(0, 0), (2, 0), (0, 2), (-2, 2)])
    def test_half_pixel_conventions(self, shift):
        """Half an input pixel, the usual disagreement about pixel centres, is tolerated."""
        found = alignment(PATTERN, np.roll(GOOD, shift, (0, 1)), K)
        assert found.problem is None
        assert found.displacement == pytest.approx(np.hypot(*shift) / K, abs=0.1)

    @pytest.mark.parametrize("shift", [(4, 0), (0, -4), (9, 5), (-40, 20)])
    def test_shift(self, shift):
        found = alignment(PATTERN, np.roll(GOOD, shift, (0, 1)), K)
        assert found.shift == pytest.approx(shift, abs=1)
        assert "shifted by" in found.problem

    @pytest.mark.parametrize("keep", [0.95, 0.9])
    def test_crop(self, keep):
        found = alignment(PATTERN, cropped(keep), K)
        assert found.stretch == pytest.approx((1 / keep, 1 / keep), abs=0.03)
        assert "stretched by" in found.problem

    def test_flat(self):
        flat = np.full((64, 64, 3), 90, np.uint8)
        found = alignment(flat, np.full((128, 128, 3), 80, np.uint8), 2)
        assert (found.windows, found.problem) == (0, None)

    @pytest.mark.parametrize("shape", [(1, 1), (2, 9), (17, 64), (65, 16)])
    def test_small_and_narrow(self, shape):
        source = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        assert alignment(source, source.repeat(2, 0).repeat(2, 1), 2).problem is None
