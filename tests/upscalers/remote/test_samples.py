"""From bytes to checked samples."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from app.upscalers.remote.errors import ProtocolError, WrongSample
from app.upscalers.remote.http import Upstream
from app.upscalers.remote.samples import SampleReader
from app.upscalers.turns import Turn
from tests.factories import encoded
from tests.upscalers.remote.pictures import config, sample, source, uri

URL = "http://127.0.0.1:9"
SOURCE = source()
SAMPLE = sample(SOURCE.rgb, 1)
HOLED = source()
HOLED.rgb[:9, :9] = [255, 0, 255]


@pytest.fixture
async def reader_of():
    """A reader of an upscaler with these settings."""
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
        [
            ("PNG", {}, False),
            ("WEBP", {"lossless": True}, False),
            ("JPEG", {"quality": 95}, True),
            ("WEBP", {}, True),
        ],
    )
    async def test_files(self, reader, kind, options, lossy):
        """A lossless file gives the very pixels; a lossy one is taken, and remembered."""
        got = await reader.read(encoded(SAMPLE, kind, **options), SOURCE, Turn())
        assert (reader.lossy, np.array_equal(got, SAMPLE)) == (lossy, not lossy)

    async def test_data_uri_and_base64(self, reader):
        """Data URIs and bare base64 are told apart by themselves."""
        text = uri(encoded(SAMPLE))
        for value in (text, text.partition(",")[2]):
            assert np.array_equal(await reader.read_text(value, SOURCE, Turn()), SAMPLE)

    @pytest.mark.parametrize(
        "value", [None, "", 7, ["x"], "not base64!", "data:image/png,raw", "aGVsbG8="]
    )
    async def test_no_image(self, reader, value):
        """Everything else is a protocol error."""
        with pytest.raises(ProtocolError):
            await reader.read_text(value, SOURCE, Turn())

    @pytest.mark.parametrize("data", [b"", b"GIF89a", b"<html>", encoded(SAMPLE)[:300]])
    async def test_damaged(self, reader, data):
        """Other formats and truncated files are protocol errors."""
        with pytest.raises(ProtocolError, match="no usable image"):
            await reader.read(data, SOURCE, Turn())

    async def test_bomb(self, reader):
        """A huge image in a small file is refused by its header."""
        bomb = encoded(np.zeros((1200, 1200, 3), np.uint8))
        assert len(bomb) < 30_000
        with pytest.raises(WrongSample, match="larger than 96×96"):
            await reader.read(bomb, SOURCE, Turn())

    async def test_too_small(self, reader):
        """A smaller image is refused, naming both sizes."""
        with pytest.raises(WrongSample, match="of 48×48 pixels; expected 96×96, 2 times"):
            await reader.read(encoded(SOURCE.rgb), SOURCE, Turn())

    async def test_unchanged(self, reader):
        """The input, merely resized, is refused."""
        large = np.asarray(Image.fromarray(SOURCE.rgb).resize((96, 96)))
        with pytest.raises(WrongSample, match="no model has run"):
            await reader.read(encoded(large), SOURCE, Turn())

    async def test_misaligned(self, reader_of, reader):
        """A shifted sample is refused with the measured shift, unless that is allowed."""
        shifted = encoded(np.roll(SAMPLE, 6, 1))
        with pytest.raises(WrongSample, match=r"shifted by \+[56]\.\d pixels horizontally"):
            await reader.read(shifted, SOURCE, Turn())
        tolerant = reader_of(alignment="ignore")
        assert (await tolerant.read(shifted, SOURCE, Turn())).shape == (96, 96, 3)

    async def test_fit(self, reader_of):
        """With fit, an answer of another size and the right aspect is resized."""
        reader = reader_of(fit="resize")
        other = np.asarray(Image.fromarray(SAMPLE).resize((120, 120)))
        assert (await reader.read(encoded(other), SOURCE, Turn())).shape == (96, 96, 3)
        with pytest.raises(WrongSample, match="of 120×96"):
            await reader.read(encoded(np.ascontiguousarray(other[:96])), SOURCE, Turn())


class TestScaleOne:
    async def test_the_input_sent_back(self, reader_of):
        """The error does not speak of resizing."""
        with pytest.raises(WrongSample, match="sent the input back unchanged: no model has run"):
            await reader_of(scale=1).examine(SOURCE.rgb, SOURCE)

    async def test_without_holes(self, reader_of):
        """An upscaler that fills in may send an input back; with holes it may not."""
        reader = reader_of(scale=1, mask_color="#ff00ff")
        assert np.array_equal(await reader.examine(SOURCE.rgb, SOURCE), SOURCE.rgb)
        with pytest.raises(WrongSample, match="unchanged"):
            await reader.examine(HOLED.rgb, HOLED)

    async def test_a_shift_around_the_holes(self, reader_of):
        """What lies outside the holes must still lie on the input's pixels."""
        reader = reader_of(scale=1, mask_color="#ff00ff")
        with pytest.raises(WrongSample, match="do not lie on the input"):
            await reader.examine(np.roll(SOURCE.rgb, 5, 1), HOLED)
