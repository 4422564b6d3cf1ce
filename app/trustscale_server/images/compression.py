"""How strongly a file was compressed, read from the file itself.

Nothing else known of an upload affects an upscaler's error as much. JPEG files hold quantisation
tables, lossy WebP, AVIF and HEIC files a quantiser, which map to the quality, 1 to 100, of common
encoders. An earlier compression leaves its trace in the pixels (`resaved.py`).
"""

from __future__ import annotations

import struct
from typing import Final, Literal, NamedTuple

from PIL import Image

from trustscale_server.images.quality.avif import avif_quality
from trustscale_server.images.quality.heic import heic_quality
from trustscale_server.images.quality.jpeg import jpeg_quality
from trustscale_server.images.quality.webp import vp8_quality

Codec = Literal["lossless", "jpeg", "webp", "avif", "heic", "palette", "other"]


class Compression(NamedTuple):
    """How a file is compressed.

    codec: `other` is lossy or not known. quality: 1 to 100, None if it is not known.
    """

    codec: Codec
    quality: int | None = None

    @property
    def scored_quality(self) -> int | None:
        """The quality that classes and scores depend on: HEIC's was not known when they were made.

        Whether it is below what was calibrated depends on that of any file.
        """
        return None if self.codec == "heic" else self.quality


LOSSLESS, PALETTE = Compression("lossless"), Compression("palette")

TITLES: Final = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "heic": "HEIC"}


def read_compression(data: bytes, image: Image.Image) -> Compression:
    """Return the compression that an opened file declares, without reading its pixels."""
    form = str(image.format)
    if form in {"JPEG", "MPO"}:
        tables = getattr(image, "quantization", None) or {}
        return Compression("jpeg", jpeg_quality(tables[0]) if 0 in tables else None)
    if form == "WEBP":
        return _webp(data)
    if form == "AVIF":
        return Compression("avif", avif_quality(data))
    if form == "HEIF":
        return Compression("heic", heic_quality(data))
    if form == "GIF" or image.mode == "P":
        return PALETTE
    tiff_is_lossy = image.info.get("compression") in {"jpeg", "tiff_jpeg", "webp"}
    is_lossless = form in {"PNG", "BMP", "PPM"} or (form == "TIFF" and not tiff_is_lossy)
    return LOSSLESS if is_lossless else Compression("other")


def _webp(data: bytes) -> Compression:
    """Read a WebP container (RIFF), whose picture is a chunk `VP8L` (lossless) or `VP8 `."""
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        if name == b"VP8L":
            return LOSSLESS
        if name == b"VP8 ":
            return Compression("webp", vp8_quality(data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return Compression("other")
