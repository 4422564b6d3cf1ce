"""How strongly a file was compressed: read from the file, or from what it left in the pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from app.images.compression import (
    EDGES,
    LOSSLESS,
    Compression,
    class_in_words,
    class_of,
    read_compression,
    resaved_quality,
)
from app.images.decode import Limits, decode
from tests.factories import encoded, photo


def textured(seed: int = 0, side: int = 128):
    """A picture with detail everywhere, as photographs have."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 25, (side, side, 1)) + random.normal(0, 5, (side, side, 3))
    return np.clip(photo(seed, side, side) + noise, 0, 255).astype(np.uint8)


def said(data: bytes) -> Compression:
    return read_compression(data, Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("quality", [1, 20, 49, 50, 67, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_quality_is_exact(quality, subsampling):
    """The quality that an encoder scaled the standard table by is found again."""
    data = encoded(textured(), "JPEG", quality=quality, subsampling=subsampling)
    assert said(data) == Compression("jpeg", quality)


def test_other_tables_are_placed_beside_the_standard_ones():
    """A camera's own table, finer than that of quality 90 everywhere, counts as better than 90."""
    data = encoded(textured(), "JPEG", qtables=[[2] * 64, [2] * 64])
    assert said(data).quality > 90


@pytest.mark.parametrize("quality", [30, 50, 75, 85, 95])
def test_webp_quality_is_near(quality):
    """The quantiser of the bitstream gives the quality to within what segments vary."""
    found = [said(encoded(textured(k), "WEBP", quality=quality)).quality for k in range(4)]
    assert max(abs(one - quality) for one in found) <= 12
    assert abs(np.mean(found) - quality) <= 8


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [
        ("PNG", {}, LOSSLESS),
        ("WEBP", {"lossless": True}, LOSSLESS),
        ("WEBP", {"lossless": True, "exif": b"Exif\0\0"}, LOSSLESS),
        ("TIFF", {}, LOSSLESS),
        ("TIFF", {"compression": "tiff_lzw"}, LOSSLESS),
        ("TIFF", {"compression": "jpeg"}, Compression("other")),
        ("AVIF", {}, Compression("other")),
    ],
)
def test_other_files(form, options, expected):
    """Without loss, or with one that is not understood."""
    assert said(encoded(textured(), form, **options)) == expected


@pytest.mark.parametrize("length", [0, 12, 20, 30, 40])
def test_damaged_webp(length):
    """A file that ends early says nothing, and breaks nothing."""
    data = encoded(textured(), "WEBP", quality=60)
    image = Image.open(io.BytesIO(data))
    assert read_compression(data[:length], image).codec in {"webp", "other"}


def test_decode_tells():
    """What is uploaded is looked at while it is decoded."""
    assert decode(encoded(textured(), "JPEG", quality=80), Limits()).compression == ("jpeg", 80)
    assert decode(encoded(textured()), Limits()).compression == LOSSLESS


class TestResaved:
    @pytest.mark.parametrize("quality", [40, 60, 75, 90])
    @pytest.mark.parametrize("cut", [(0, 0), (3, 5)])
    def test_a_jpeg_saved_again_without_loss(self, quality, cut):
        """The first quantisation is found in the pixels, also where the picture was cut since."""
        top, left = cut
        pixels = np.asarray(Image.open(io.BytesIO(encoded(textured(), "JPEG", quality=quality))))
        assert resaved_quality(pixels[top:, left:]) == pytest.approx(quality, abs=1)

    def test_what_never_was_a_jpeg(self):
        """No trace is seen where there is none: in detail, in flat areas, in noise."""
        for seed in range(30):
            assert resaved_quality(textured(seed)) is None
            assert resaved_quality(photo(seed, 128, 128)) is None
        assert resaved_quality(np.zeros((64, 64, 3), np.uint8)) is None
        assert resaved_quality(np.zeros((5, 7, 3), np.uint8)) is None


def test_classes_cover_every_quality_once():
    """Each quality has one class, and its words name that quality."""
    for codec, edges in EDGES.items():
        names = [class_of(Compression(codec, quality)) for quality in range(1, 101)]
        assert len(set(names)) == len(edges) + 1
        assert names == sorted(names, key=names.index)
        for edge in edges:
            name = class_of(Compression(codec, edge))
            assert name == f"{codec}-{edge}"
            assert f"quality {edge} to" in class_in_words(name)
    assert class_of(Compression("other")) == class_of(Compression("jpeg", None)) == "other"
