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
    edges_of,
    read_compression,
    resaved_quality,
    worst_of,
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
        ("GIF", {}, Compression("palette")),
    ],
)
def test_other_files(form, options, expected):
    """Without loss, or with one that is not understood."""
    assert said(encoded(textured(), form, **options)) == expected


@pytest.mark.parametrize("quality", [20, 40, 64, 80, 95])
@pytest.mark.parametrize("side", [24, 128, 700])
def test_avif_quality_is_near(quality, side):
    """The quantiser of the first frame gives it, of one tile and of several."""
    found = said(encoded(textured(1, side), "AVIF", quality=quality))
    assert found == ("avif", pytest.approx(quality, abs=2))


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_damaged_files(form):
    """A file that ends early, or with a bit turned, says nothing or something, and never fails."""
    data = encoded(textured(), form, quality=60)
    image = Image.open(io.BytesIO(data))
    place = data.find(b"mdat") + 4 if form == "AVIF" else 12
    for end in range(place + 60):
        assert read_compression(data[:end], image).codec in {"webp", "avif", "other"}
        turned = bytearray(data)
        turned[end] ^= 1 << end % 8
        quality = read_compression(bytes(turned), image).quality
        assert quality is None or 1 <= quality <= 100


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

    @pytest.mark.parametrize("later", [("JPEG", 92), ("JPEG", 96), ("WEBP", 95), ("AVIF", 95)])
    def test_the_lowest_quality_in_the_chain(self, later):
        """A JPEG that was saved again with less loss counts as what it was; the worst file too."""
        form, quality = later
        first = Image.open(io.BytesIO(encoded(textured(), "JPEG", quality=50)))
        again = decode(encoded(np.asarray(first), form, quality=quality), Limits())
        worst = worst_of(again.compression, again.rgb)
        assert class_of(worst) == "jpeg-50"
        assert worst_of(Compression("jpeg", 20), again.rgb) == ("jpeg", 20)

    @pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
    @pytest.mark.parametrize("quality", [45, 60, 75, 80, 85, 95])
    def test_saved_once(self, form, quality):
        """Its own quantisation is not taken for an earlier one."""
        for seed in range(4):
            once = decode(encoded(textured(seed), form, quality=quality), Limits())
            assert worst_of(once.compression, once.rgb) == once.compression

    def test_what_never_was_a_jpeg(self):
        """No trace is seen where there is none: in detail, in flat areas, in noise."""
        for seed in range(30):
            assert resaved_quality(textured(seed)) is None
            assert resaved_quality(photo(seed, 128, 128)) is None
        assert resaved_quality(np.zeros((64, 64, 3), np.uint8)) is None
        assert resaved_quality(np.zeros((5, 7, 3), np.uint8)) is None


@pytest.mark.parametrize("look", ["sharp", "soft"])
@pytest.mark.parametrize("codec", list(EDGES))
def test_classes_cover_every_quality_once(codec, look):
    """Each quality has one class, and its words name that quality, and softness."""
    edges = edges_of(codec, look)
    names = [class_of(Compression(codec, q), look) for q in range(1, 101)]
    assert len(set(names)) == len(edges) + 1
    assert names == sorted(names, key=names.index)
    for name, edge in zip(sorted(set(names[edges[-1] :]), reverse=True), edges, strict=True):
        assert f"quality {edge} to" in class_in_words(name)
        assert ("soft" in class_in_words(name)) == (look == "soft")


@pytest.mark.parametrize(("look", "otherwise"), [("bilinear", "soft"), ("smoothed", "sharp")])
def test_looks_that_only_clear_files_tell(look, otherwise):
    """Without loss and as JPEG from 80 on they are classes; elsewhere they are not told apart."""
    assert class_of(LOSSLESS, look) == f"{look}/lossless"
    names = {class_of(Compression("jpeg", q), look) for q in range(80, 101)}
    assert names == {f"{look}/jpeg-80"}
    assert class_in_words(f"{look}/jpeg-80").startswith("JPEG of quality 80 to 100, s")
    for other in [Compression("jpeg", 79), Compression("webp", 90), Compression("other")]:
        assert class_of(other, look) == class_of(other, otherwise)


def test_classes_without_a_quality():
    """What is not known has a class of its own."""
    assert class_of(Compression("other")) == class_of(Compression("jpeg", None)) == "other"
    assert class_of(Compression("palette"), "soft") == "soft/palette"
    assert "GIF" in class_in_words("palette")
    assert "below 30" in class_in_words("jpeg-low")
