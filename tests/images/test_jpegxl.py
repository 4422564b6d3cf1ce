"""The size of a JPEG XL picture is read before its pixels."""

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.decoding.header import image_size
from trustscale_server.images.decoding.jpeg_xl import jpeg_xl_size
from trustscale_server.images.limits import Limits
from trustscale_server.platform.errors import BadImage, ImageTooLarge

pytest.importorskip("pillow_jxl")


def jpeg_xl(width, height, **options):
    out = io.BytesIO()
    Image.new("L", (width, height), 7).save(out, "JXL", lossless=True, effort=1, **options)
    return out.getvalue()


SIDES = st.integers(1, 40) | st.integers(1, 3000)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(SIDES, SIDES)
@example(1, 2**17)  # in 30 bits
@example(2**13 + 1, 9)
@example(256, 256)  # in multiples of 8
@example(248, 31)
@example(120, 100)  # the width as a ratio
@example(160, 90)
@example(150, 100)
@example(200, 100)
def test_is_what_the_reader_says(width, height):
    assert jpeg_xl_size(jpeg_xl(width, height)) == (width, height)


def test_in_a_file_of_boxes():
    """Also where the codestream comes in parts, and behind others."""
    data = jpeg_xl(300, 200, exif=Image.Exif(), use_container=True)
    assert data.startswith(b"\0\0\0\x0cJXL ")
    assert jpeg_xl_size(data) == (300, 200)
    bare = jpeg_xl(300, 200)
    parts = [b"\0\0\0\0" + bare[:1], b"\0\0\0\1" + bare[1:3], b"\x80\0\0\2" + bare[3:]]
    boxes = b"".join((8 + len(part)).to_bytes(4, "big") + b"jxlp" + part for part in parts)
    long = b"\0\0\0\1free" + (20).to_bytes(8, "big") + bytes(4)
    assert jpeg_xl_size(b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a" + long + boxes) == (300, 200)
    decoded = decode(b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a" + data[12:32] + boxes, Limits())
    assert decoded.rgb.shape == (200, 300, 3)


@pytest.mark.parametrize("data", [b"\0\0\0\x0cJXL ", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a\0\0\0\3abcd"])
def test_without_a_header(data):
    with pytest.raises(BadImage, match="no header"):
        jpeg_xl_size(data)


def test_too_large_is_seen_before_the_pixels():
    """The error names the size, which its reader says only after it has decoded them."""
    data = jpeg_xl(640, 480)
    cut = data[: len(data) // 2]
    with pytest.raises(ImageTooLarge) as caught:
        image_size(cut, Limits(max_pixels=1000))
    assert caught.value.members["actual"] == 640 * 480
    with pytest.raises(BadImage):
        image_size(cut, Limits())
