"""The quality of HEIC files, from the quantiser of their frames."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from harness.factories import encoded, photo, sharp
from trustscale_server.images.compression import Compression, read_compression
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import Limits
from trustscale_server.images.quality.heic import heic_quality
from trustscale_server.kinds.features import look_at

pillow_heif = pytest.importorskip("pillow_heif")
pillow_heif.register_heif_opener(thumbnails=False)


def box(kind, *content, version=None, flags=0):
    """A box of a file, or with a version a full box."""
    head = b"" if version is None else struct.pack(">I", version << 24 | flags)
    body = head + b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def content(data, kind):
    """Of the first box of this kind."""
    place = data.index(kind)
    return data[place + 4 : place - 4 + int.from_bytes(data[place - 4 : place], "big")]


def of_tiles(tiles, side):
    """A picture of two tiles beside each other, as phones save it, of two files with one frame."""
    frames = [content(tile, b"mdat") for tile in tiles]
    ispe = [box(b"ispe", struct.pack(">II", width, side), version=0) for width in (side, 2 * side)]
    properties = [box(b"hvcC", content(tile, b"hvcC")) for tile in tiles]
    owned = [(1, (4,)), (2, (1, 3)), (3, (2, 3))]
    ipma = b"".join(
        struct.pack(">HB", item, len(of_item)) + bytes(0x80 | place for place in of_item)
        for item, of_item in owned
    )
    grid = struct.pack(">BBBBHH", 0, 0, 0, 1, 2 * side, side)
    infos = [
        box(b"infe", struct.pack(">HH4sx", item, 0, kind), version=2)
        for item, kind in [(1, b"grid"), (2, b"hvc1"), (3, b"hvc1")]
    ]

    def meta(start):
        places = b""
        for item, data in [(1, grid), (2, frames[0]), (3, frames[1])]:
            places += struct.pack(">HHHHII", item, 0, 0, 1, start, len(data))
            start += len(data)
        return box(
            b"meta",
            box(b"hdlr", struct.pack(">I4s12xx", 0, b"pict"), version=0),
            box(b"pitm", struct.pack(">H", 1), version=0),
            box(b"iinf", struct.pack(">H", 3), *infos, version=0),
            box(b"iref", box(b"dimg", struct.pack(">HHHH", 1, 2, 2, 3)), version=0),
            box(
                b"iprp",
                box(b"ipco", *properties, *ispe),
                box(b"ipma", struct.pack(">I", 3), ipma, version=0),
            ),
            box(b"iloc", struct.pack(">BBH", 0x44, 0, 3), places, version=1),
            version=0,
        )

    kind = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    start = len(kind) + len(meta(0)) + 8
    return kind + meta(start) + box(b"mdat", grid, *frames)


@pytest.mark.parametrize("quality", [1, 10, 25, 36, 40, 41, 60, 75, 90])
@pytest.mark.parametrize("options", [{}, {"chroma": "444"}, {"exif": b"Exif\0\0"}])
def test_quality_is_near(quality, options):
    """It follows from the quantiser alone, whatever is shown; a step of it is two of quality."""
    for shown in (sharp(), photo(1, 40, 56)):
        file = encoded(shown, "HEIF", quality=quality, **options)
        assert abs(heic_quality(file) - quality) <= 1


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_what_stands_beside_the_picture(mode):
    """Transparency is a frame of its own, and a picture may have one channel."""
    image = Image.fromarray(sharp()).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert abs(heic_quality(encoded(image, "HEIF", quality=30)) - 30) <= 1


def test_a_picture_of_tiles():
    """Phones save tiles: their mean counts; others read the same file as the two pictures."""
    halves = [sharp(left, 64) for left in (20, 84)]
    file = of_tiles(
        [encoded(one, "HEIF", quality=q) for one, q in zip(halves, (30, 50), strict=True)], 64
    )
    image = decode(file, Limits())
    assert np.abs(image.rgb.astype(int) - np.hstack(halves)).mean() < 12
    assert image.compression == ("heic", pytest.approx(40, abs=1))


def test_a_damaged_file():
    """It says nothing or something, and never fails, at any end and with any bit turned."""
    data = encoded(photo(1, 32, 32), "HEIF", quality=60)
    end = data.index(b"mdat") + 200
    for place in range(end):
        turned = bytearray(data)
        turned[place] ^= 1 << place % 8
        for file in (data[:place], bytes(turned)):
            quality = heic_quality(file)
            assert quality is None or 1 <= quality <= 100


def test_more_than_phones_write():
    """What is read has a bound: boxes, items, and parts of items without a byte of their own."""
    data = encoded(photo(1, 32, 32), "HEIF", quality=60)
    iloc = data.index(b"iloc")
    for place, size in ((iloc + 4 + 6, 2), (data.index(b"ipma") + 8, 4)):
        assert heic_quality(data[:place] + b"\xff" * size + data[place + size :]) is None
    parts = struct.pack(">HHHH", 1, 0, 0xFFFF, 0)  # each of no byte
    empty = box(b"iloc", struct.pack(">BBH", 0, 0, 1), parts, version=0)
    assert heic_quality(data[: iloc - 4] + empty + data[iloc + 4 :]) is None
    assert heic_quality(data + 10**6 * box(b"free")) == heic_quality(data)
    assert heic_quality(10**6 * box(b"free") + data) is None


def test_class_and_score_do_not_follow_it():
    """They were learned and calibrated from HEIC files of an unknown quality."""
    data = encoded(sharp(), "HEIF", quality=80)
    found = read_compression(data, Image.open(io.BytesIO(data)))
    assert found == Compression("heic", 80)
    seen, blind = (look_at(sharp(), one) for one in (found, Compression("heic")))
    assert (seen.compression, blind.compression) == (("heic", 80), ("heic", None))
    assert seen.terms() == blind.terms()
    assert (seen.kind, seen.described) == (blind.kind, blind.described)
