"""How much work a file makes, judged from its bytes before a decoder sees them.

The number of pixels bounds what an honest file costs. Formats allow more: a JPEG file may draw all
its pixels again and again, a PNG file may consist of millions of chunks, or inflate the same
profile a thousand times. Threads that decode cannot be stopped, so such files are refused first.

Each format has one function in `FORMATS`, which finds in a few milliseconds what the file asks for
beyond its pixels. The seconds are of one core of an ordinary server (`benchmarks/hostile.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from app.errors import BadImage

MOST_SECONDS: Final = 1.0
"""A file may cost so much beyond its pixels; half of what is promised, for slower machines."""

_CHUNK: Final = 8e-6  # seconds that Pillow takes for a chunk of PNG or WebP, or a JPEG segment
_INFLATED: Final = 3.5e-9  # per byte of inflated text or profile
_IDLE_DEFLATE: Final = 1e-7  # per byte of deflate that inflates to nothing
_PARSED: Final = 1.5e-7  # per byte of a JPEG segment that Pillow takes apart
_COPIED: Final = 2e-10  # per byte that is copied
_CODED: Final = 1e-7  # per byte of AVIF, HEIC or JPEG XL
_RUN: Final = 1e-6  # for a run of a BMP file, which Pillow unpacks in Python
_SCAN: Final = 3e-6  # to begin a scan
_PIXEL_IN_SCAN: Final = 2e-9  # each scan visits all pixels, in two decodings

_COPIED_SEGMENTS: Final = {*range(0xE0, 0xF0), 0xFE} - {0xED}  # remarks and data of programs
_RATIO: Final = 1032  # deflate cannot do better
_LONGEST_TEXT: Final = 2**20  # Pillow inflates no more of one chunk
_ORDINARY_SCANS: Final = 16  # progressive files of common encoders have up to about ten


@dataclass(frozen=True, slots=True)
class Work:
    """What a file asks for beyond its pixels.

    Attributes:
        seconds: whatever its size.
        scans: how often all of its pixels are visited, more often than files usually ask for.
        what: the part of the file that causes it, for an error.
    """

    seconds: float = 0.0
    scans: int = 0
    what: str = "its parts"

    def check(self, width: int = 0, height: int = 0) -> None:
        """Return if it is bearable, for an image of this size; as far as known for size 0.

        Raises:
            BadImage: it is not.
        """
        visited = self.scans * (_padded(width) * _padded(height) * _PIXEL_IN_SCAN + _SCAN)
        if self.seconds + visited > MOST_SECONDS:
            raise BadImage(
                f"Decoding the file would take much longer than its size justifies: {self.what}. "
                "Save it again with an ordinary program."
            )


def work_of(data: bytes) -> Work:
    """The work of a file; none for one that is of no known format."""
    judge = next((judge for magic, judge in FORMATS.items() if magic.match(data)), None)
    return Work() if judge is None else judge(data)


def _padded(side: int) -> int:
    """Sides of JPEG images are padded to whole blocks."""
    return -side // 16 * -16


def _png(data: bytes) -> Work:
    """Chunks, what they inflate to, and deflate beyond what the pixels can fill."""
    chunks, inflated, pixels, at = 0, 0, 0, 8
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        chunks += 1
        if kind == b"IDAT":
            pixels += length
        elif kind in {b"zTXt", b"iTXt", b"iCCP"}:
            inflated += min(length * _RATIO, _LONGEST_TEXT)
        if chunks * _CHUNK > MOST_SECONDS or kind == b"IEND":
            break
        at += length + 12
    idle = max(0, pixels - _png_bytes(data) - 4096)
    seconds = chunks * _CHUNK + inflated * _INFLATED + idle * _IDLE_DEFLATE
    return Work(seconds, what=f"{chunks:,} chunks, {inflated:,} bytes of packed text")


def _png_bytes(data: bytes) -> int:
    """What the pixels of a PNG file can fill, by its first chunk; deflate never needs much more."""
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    depth = int.from_bytes(data[24:25])
    channels = {b"\2": 3, b"\4": 2, b"\6": 4}.get(data[25:26], 1)
    # A filter per line, of which interlacing makes up to twice as many.
    return height * (width * channels * depth // 8 + 2)


def _jpeg(data: bytes) -> Work:
    """Segments before the first scan, which Pillow reads, and the number of scans."""
    # Upper bounds, since previews and remarks may hold these bytes: no scan can hide in another.
    scans = data.count(b"\xff\xda")
    segments, seconds, exif, at = 0, 0.0, 0, 2
    while at + 4 <= len(data) and seconds <= MOST_SECONDS:
        segments += 1
        seconds += _CHUNK
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if data[at] != 0xFF or marker in {0x00, 0xFF}:  # what stands between segments is skipped
            at += 1
            continue
        if marker == 0xDA:
            break
        if marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            exif += length  # joined to what came before, which is copied each time
            seconds += exif * _COPIED
        is_copied = marker in _COPIED_SEGMENTS
        seconds += length * (_COPIED if is_copied else _PARSED)
        at += 2 if 0xD0 <= marker <= 0xD9 or marker == 0x01 else 2 + length
    what = f"{scans:,} scans" if scans > _ORDINARY_SCANS else f"{segments:,} segments"
    return Work(seconds, max(0, scans - _ORDINARY_SCANS), what)


def _webp(data: bytes) -> Work:
    """The chunks, each of which libwebp keeps in a list."""
    chunks, at = 0, 12
    while at + 8 <= len(data) and chunks * _CHUNK <= MOST_SECONDS:
        chunks += 1
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return Work(chunks * _CHUNK, what=f"{chunks:,} chunks")


def _tiff(data: bytes) -> Work:
    """Entries of the first directory, and the scans of JPEG data within."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in {b"+\0", b"\0+"}
    at = int.from_bytes(data[8:16] if big else data[4:8], order)
    entries = int.from_bytes(data[at : at + (8 if big else 2)], order)
    scans = max(0, data.count(b"\xff\xda") - _ORDINARY_SCANS)
    return Work(min(entries, len(data)) * _CHUNK, scans, f"{entries:,} tags, {scans:,} scans")


def _gif(data: bytes) -> Work:
    """Blocks and their parts, up to the first picture; behind it nothing is read."""
    blocks, at = 0, 13 + (3 << ((data[10] & 7) + 1) if len(data) > 10 and data[10] & 0x80 else 0)
    while at < len(data) and data[at] == 0x21 and blocks * _CHUNK <= MOST_SECONDS:
        at += 2
        while at < len(data) and data[at] and blocks * _CHUNK <= MOST_SECONDS:
            blocks, at = blocks + 1, at + data[at] + 1
        blocks, at = blocks + 1, at + 1
    return Work(blocks * _CHUNK, what=f"{blocks:,} blocks")


def _bmp(data: bytes) -> Work:
    """Runs beyond what the pixels can fill, in files that consist of runs."""
    if int.from_bytes(data[30:34], "little") not in {1, 2}:
        return Work()
    width, height = int.from_bytes(data[18:22], "little"), int.from_bytes(data[22:26], "little")
    idle = max(0, len(data) - 2 * width * height - 4096)
    return Work(idle / 2 * _RUN, what=f"{len(data):,} bytes of runs")


def _coded(data: bytes) -> Work:
    """Codecs of video: the time follows the bytes, which are few for the pixels of a photograph."""
    return Work(max(0, len(data) - 4 * 2**20) * _CODED, what=f"{len(data):,} bytes")


FORMATS: Final[dict[re.Pattern[bytes], Callable[[bytes], Work]]] = {
    re.compile(rb"\x89PNG\r\n\x1a\n"): _png,
    re.compile(rb"\xff\xd8"): _jpeg,
    re.compile(rb"RIFF....WEBP", re.DOTALL): _webp,
    re.compile(rb"II[*+]\0|MM\0[*+]"): _tiff,
    re.compile(rb"GIF8[79]a"): _gif,
    re.compile(rb"BM"): _bmp,
    re.compile(rb"....ftyp|\xff\x0a|\0\0\0\x0cJXL ", re.DOTALL): _coded,
}
"""By the first bytes of a file."""
