"""Files that would keep a decoder busy for long are refused by their bytes."""

from __future__ import annotations

import pytest

from app.errors import BadImage
from app.images.decode import Limits, decode, image_size
from app.images.work import MOST_SECONDS, work_of
from tests.factories import encoded, photo
from tests.images import hostile

LIMITS = Limits()
PHOTOSHOP = b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000

HOSTILE = {
    "scans": lambda: hostile.jpeg_of_scans(1000, 1024),
    "scans of a small image": lambda: hostile.jpeg_of_scans(400_000, 8),
    "remarks": lambda: hostile.jpeg_of_segments(150_000),
    "settings of another program": lambda: hostile.jpeg_of_segments(120, 0xED, PHOTOSHOP),
    "tables": lambda: hostile.jpeg_of_segments(120, 0xDB, (b"\0" + b"\1" * 64) * 1000),
    "pieces of EXIF": lambda: hostile.jpeg_of_segments(450, 0xE1, b"Exif\0\0" + bytes(60_000)),
    "bytes between segments": lambda: b"\xff\xd8" + b"\xff\0" * 200_000 + encoded(photo(), "JPEG"),
    "chunks": lambda: hostile.png_of_chunks(150_000),
    "profiles": lambda: hostile.png_of_profiles(300),
    "idle deflate": lambda: hostile.png_of_idle_deflate(12_000_000),
    "chunks of WebP": lambda: hostile.webp_of_chunks(150_000),
    "remarks of GIF": lambda: hostile.gif_of_blocks(150_000),
    "runs of BMP": lambda: hostile.bmp_of_idle_runs(1_500_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_refused(kind):
    """Each kind is refused before decoding, by its header too, and the reason is told."""
    data = HOSTILE[kind]()
    assert len(data) < LIMITS.max_bytes
    for read in (decode, image_size):
        with pytest.raises(BadImage, match=r"longer than its size justifies: [0-9,]+ "):
            read(data, LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(0, 512, 512), "JPEG", progressive=True, quality=95),
        encoded(
            photo(0, 512, 512), "JPEG", icc_profile=bytes(600_000), exif=b"Exif\0\0" + bytes(60_000)
        ),
        encoded(photo(0, 512, 512), compress_level=0),
        encoded(photo(0, 512, 512), "WEBP", lossless=True, icc_profile=bytes(600_000)),
        encoded(photo(0, 1, 1)),
    ],
    ids=["progressive", "profile", "stored", "webp", "pixel"],
)
def test_ordinary_files(data):
    """What common programs write is far from the bound."""
    work = work_of(data)
    assert work.scans == 0
    assert work.seconds < MOST_SECONDS / 20


def test_a_few_scans_more():
    """A file may draw its pixels more often than usual; how often depends on its size."""
    work_of(hostile.jpeg_of_scans(300, 64)).check(1024, 1024)
    with pytest.raises(BadImage, match="scans"):
        work_of(hostile.jpeg_of_scans(300, 64)).check(4096, 4096)
