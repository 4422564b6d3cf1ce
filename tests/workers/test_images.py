"""Encoded files as pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from workers.errors import InputError, TooLarge
from workers.images import decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def _file(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class TestDecodeImage:
    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
    def test_lossless_formats(self, kind, options):
        """Lossless files give their pixels."""
        data = _file(Image.fromarray(PIXELS), kind, **options)
        assert np.array_equal(decode_image(data, 24), PIXELS)

    def test_grey(self):
        """Grey becomes three equal channels."""
        data = _file(Image.fromarray(PIXELS[..., 0]))
        assert np.array_equal(decode_image(data, 24), PIXELS[..., :1].repeat(3, axis=2))

    def test_orientation(self):
        """A photograph is turned as its EXIF data say."""
        exif = Image.Exif()
        exif[274] = 6
        data = _file(Image.fromarray(PIXELS), "JPEG", exif=exif)
        assert decode_image(data, 24).shape == (6, 4, 3)

    def test_too_large(self):
        """Pixels are counted before they are decompressed."""
        with pytest.raises(TooLarge, match="6x4"):
            decode_image(_file(Image.fromarray(PIXELS))[:60], 23)

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "CMYK"])
    def test_other_modes(self, mode):
        """Transparency, 16 bits and printing colours are refused, not silently dropped."""
        kind = "JPEG" if mode == "CMYK" else "PNG"
        with pytest.raises(InputError, match="mode"):
            decode_image(_file(Image.new(mode, (6, 4)), kind), 24)

    @pytest.mark.parametrize("data", [b"", b"text", b"GIF89a" + bytes(20)])
    def test_no_image(self, data):
        """Other files are refused."""
        with pytest.raises(InputError, match="not a PNG"):
            decode_image(data, 24)

    def test_damaged(self):
        """A truncated file is refused."""
        with pytest.raises(InputError, match="damaged"):
            decode_image(_file(Image.fromarray(PIXELS))[:70], 24)
