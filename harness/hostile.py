"""Small files that would cost a decoder many seconds, in sizes that a test or benchmark chooses."""

import io
import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from PIL import Image


def chunk(kind, data=b""):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(*chunks, side=8, data=None):
    """A black square with these chunks before its pixels; `data` replaces the packed pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(side * (3 * side + 1))) if data is None else data
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", packed), chunk(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_of_chunks(count):
    return png(chunk(b"teSt") * count)


def png_of_profiles(count):
    """A PNG file whose colour profile is there again and again, each a megabyte of nothing."""
    return png(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**20))) * count)


def png_of_idle_deflate(size, side=8):
    """A PNG file whose packed pixels begin with many blocks, each a code table without content."""
    bits, count = 0, 0

    def put(value, width):
        nonlocal bits, count
        bits |= value << count
        count += width

    for _ in range(8):  # whole bytes
        for value, width in ((0, 1), (2, 2), (0, 5), (0, 5), (14, 4)):
            put(value, width)
        for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
            put(int(symbol in {1, 18}), 3)
        for value, width in ((1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)):
            put(value, width)
    block = bits.to_bytes(count // 8, "little")
    pixels = zlib.compress(bytes(side * (3 * side + 1)))
    return png(side=side, data=pixels[:2] + block * (size // len(block)) + pixels[2:])


def jpeg_of_scans(count, side=64):
    """A progressive JPEG file whose last scan, of nothing, comes again and again."""
    noise = np.random.default_rng(0).integers(100, 104, (side, side), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", progressive=True, quality=10)
    whole = out.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + (whole[last : last + 10] + b"\0\0") * count + whole[-2:]


def jpeg_of_segments(count, kind=0xFE, data=b""):
    """A JPEG file with so many segments before its picture; by default remarks."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    segment = bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data
    return b"\xff\xd8" + segment * count + out.getvalue()[2:]


def webp_of_chunks(count):
    """A WebP file with unknown chunks behind its picture."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "WEBP", lossless=True)
    picture = out.getvalue()[12:]
    header = b"VP8X" + struct.pack("<IB3x", 10, 0) + (7).to_bytes(3, "little") * 2
    body = b"WEBP" + header + picture + b"TEST\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_with_more(size):
    """A GIF file with so many bytes of remarks behind its only picture."""
    out = io.BytesIO()
    Image.new("P", (256, 192)).save(out, "GIF")
    remark = b"\x21\xfe" + (b"\xff" + bytes(255)) * 255 + b"\0"
    return out.getvalue()[:-1] + remark * (size // len(remark)) + b"\x3b"


def bmp_of_runs(runs, width=8, height=8):
    """A BMP file of 8 bits with these packed runs; a negative height begins at the top."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return (
        b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + bytes(1024) + runs
    )


def bmp_of_idle_runs(count):
    return bmp_of_runs(b"\0\2\0\0" * count)


def bmp_of_line_ends(count, width=16384, height=64):
    """A BMP file of nothing but ends of lines, each of which fills a line."""
    return bmp_of_runs(b"\0\0" * count, width, height)


def tiff(tags, data=b""):
    """A little-endian TIFF file with these tags (kind, count, value), and its data at offset 8."""
    entries, extra = b"", b""
    behind = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, (kind, count, value) in sorted(tags.items()):
        told = behind + len(extra) if isinstance(value, bytes) else value
        extra += value if isinstance(value, bytes) else b""
        entries += struct.pack("<HHII", tag, kind, count, told)
    start = 8 + len(data)
    head = b"II*\0" + struct.pack("<I", start) + data
    return head + struct.pack("<H", len(tags)) + entries + bytes(4) + extra


def _tiled(width, height, tile, packing):
    bits = struct.pack("<HHH", 8, 8, 8)
    return {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 3, bits), 259: (3, 1, packing),
        262: (3, 1, 2), 277: (3, 1, 3), 284: (3, 1, 1), 322: (4, 1, tile[0]), 323: (4, 1, tile[1]),
    }  # fmt: skip


DEFLATE, LZW, PACKBITS = 8, 5, 32773


def tiff_of_a_tile(packing=DEFLATE, tile=(32768, 21840)):
    """A small TIFF picture in one tile that is much larger than it."""
    data = {DEFLATE: zlib.compress(bytes(1000)), LZW: b"\x80\x00\x20", PACKBITS: b"\x81\0" * 8}
    tags = {**_tiled(256, 192, tile, packing), 324: (4, 1, 8), 325: (4, 1, len(data[packing]))}
    return tiff(tags, data[packing])


def tiff_of_small_tiles(width, height):
    """A TIFF file in tiles of one pixel each, all of which are the same bytes."""
    count, data = width * height, b"abc"
    places = struct.pack("<I", 8) * count
    lengths = struct.pack("<I", len(data)) * count
    tags = {**_tiled(width, height, (1, 1), 1), 324: (4, count, places), 325: (4, count, lengths)}
    return tiff(tags, data)


def exif_of_rationals(count):
    """EXIF of so many fractions, which is rewritten since the picture is turned."""
    tags = {0x0112: (3, 1, 6), 40_000: (5, count, 8)}
    return b"Exif\0\0" + tiff(tags, struct.pack("<II", 1, 3) * count)


def png_of_rationals(count):
    return png(chunk(b"eXIf", exif_of_rationals(count)[6:]), side=64)


def webp_of_rationals(count):
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "WEBP", exif=exif_of_rationals(count))
    return out.getvalue()


def avif_that_lies(width=64, height=48, side=6000):
    """An AVIF file that declares another size than its picture has."""
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "AVIF", speed=10)
    told = out.getvalue().index(b"ispe") + 8
    return out.getvalue()[:told] + struct.pack(">II", width, height) + out.getvalue()[told + 8 :]


def jpeg_xl_bomb(side=12_000):
    import pillow_jxl  # noqa: F401, PLC0415 - an extra

    out = io.BytesIO()
    Image.new("L", (side, side), 7).save(out, "JXL", lossless=True, effort=1)
    return out.getvalue()


def bomb(width, height):
    """A PNG header that promises many pixels; the body does not matter."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


_PHOTOSHOP = b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000

ENDLESS: dict[str, Callable[[], bytes]] = {
    "TIFF, a large tile, deflate": tiff_of_a_tile,
    "TIFF, a large tile, LZW": lambda: tiff_of_a_tile(LZW),
    "TIFF, a large tile, PackBits": lambda: tiff_of_a_tile(PACKBITS),
    "TIFF, a tile of a gigabyte": lambda: tiff_of_a_tile(tile=(16384, 21840)),
    "TIFF, tiles of a pixel": lambda: tiff_of_small_tiles(1024, 1024),
    "PNG, EXIF of rationals": lambda: png_of_rationals(3_500_000),
    "WebP, EXIF of rationals": lambda: webp_of_rationals(3_500_000),
    "PNG, chunks": lambda: png_of_chunks(2_000_000),
    "PNG, profiles": lambda: png_of_profiles(30_000),
    "BMP, idle runs": lambda: bmp_of_idle_runs(7_000_000),
    "BMP, idle runs from the top": lambda: bmp_of_runs(b"\0\2\0\0" * 7_000_000, 1024, -1024),
    "JPEG, scans": lambda: jpeg_of_scans(20_000, 1024),
    "JPEG, remarks": lambda: jpeg_of_segments(7_000_000),
    "JPEG, pieces of EXIF": lambda: jpeg_of_segments(450, 0xE1, b"Exif\0\0" + bytes(60_000)),
}
"""Files that take more than their pixels justify, by what they are."""

UPLOADS: dict[str, Callable[[], bytes]] = {
    **ENDLESS,
    # About as much as is allowed: whether it is refused depends on the processor.
    "PNG, idle deflate": lambda: png_of_idle_deflate(30_000_000),
    "BMP, ends of lines": lambda: bmp_of_line_ends(10_000),
    "GIF, more behind the picture": lambda: gif_with_more(31 * 2**20),
    "AVIF, a size that lies": avif_that_lies,
    "JPEG, another program's data": lambda: jpeg_of_segments(500, 0xED, _PHOTOSHOP),
    "WebP, chunks": lambda: webp_of_chunks(3_000_000),
}
"""The same, and others that were once costly."""

if find_spec("pillow_jxl"):
    UPLOADS["JPEG XL, one colour"] = jpeg_xl_bomb
