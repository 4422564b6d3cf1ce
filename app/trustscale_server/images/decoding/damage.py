"""Whatever a decoder raises on a file becomes a refusal of the file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from trustscale_server.platform.errors import BadImage, BadInput, BadRequest, reason_of

# How Pillow's decoders report that memory was refused: those of TIFF by number.
_OUT_OF_MEMORY: Final = ("decoder error -9", "out of memory when reading image file")


@contextmanager
def refusing_damage(what: str, data: bytes = b"") -> Iterator[None]:
    """Refuse a file on which the body fails, since decoders raise anything on damaged files.

    Args:
        what: the beginning of the sentence, which ends with the reason.
        data: a file whose bands could be named instead, if it is a TIFF file of several.

    Raises:
        BadImage: the file is damaged.
        BadRequest: it is no picture, and its bands must be named.
        MemoryError, BadInput: as raised in the body.
    """
    try:
        yield
    except (MemoryError, BadInput):
        raise
    except Exception as error:
        if str(error) in _OUT_OF_MEMORY:
            raise MemoryError from error
        raise bands_wanted(data) or BadImage(f"{what}: {reason_of(error)}.") from error


def bands_wanted(data: bytes) -> BadRequest | None:
    """Return the question for the bands of a TIFF file that is no picture.

    None: it may be one, or it cannot be read.
    """
    if data[:2] not in {b"II", b"MM"}:
        return None
    from tifffile import TiffFile  # noqa: PLC0415 - slow to import

    with suppress(Exception), TiffFile(io.BytesIO(data)) as file:
        bands = file.pages.first.samplesperpixel
        return None if bands in {1, 3} else name_bands(bands)
    return None


def name_bands(count: int) -> BadRequest:
    """Return the refusal of a file of several bands, of which the request names none."""
    return BadRequest(f"The file has {count} bands: name one or three, such as bands=3,2,1.")
