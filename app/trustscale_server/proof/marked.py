"""Files that hold a mark, with the digest of their pixels as others will read them."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import IO, Final

from PIL import Image

from trustscale_server.images.encoding.encode import Attached, FormatName, write_picture
from trustscale_server.pixels.lab import Pixels
from trustscale_server.proof.marks import Mark, completed, packet
from trustscale_server.proof.pixel_digest import colours_of

# What is read has exactly the values that were written; WebP loses those of hidden pixels.
_EXACT: Final = frozenset({"png", "tiff", "cog.tiff", "ome.tiff"})


def write_marked(
    out: IO[bytes],
    pixels: Pixels,
    file_format: FormatName,
    mark: Mark,
    *,
    quality: int | None = None,
    attached: Attached = Attached(),  # noqa: B008 - immutable
) -> None:
    """Write a file as `write_picture` does, with a mark about its pixels.

    A lossy file is decoded once, so that its mark has the digest of what others will read.
    """
    is_exact = file_format in _EXACT
    marked = mark.with_pixels(pixels) if is_exact else mark.pending(pixels)
    metadata = replace(attached.metadata, xmp=packet(marked, attached.metadata.xmp))
    attached = attached._replace(metadata=metadata)
    if is_exact:
        return write_picture(out, pixels, file_format, quality=quality, attached=attached)
    file = io.BytesIO()
    write_picture(file, pixels, file_format, quality=quality, attached=attached)
    with Image.open(file) as image:
        decoded = colours_of(image)
    out.write(completed(file.getvalue(), decoded))
    return None
