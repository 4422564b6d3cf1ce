"""Encoded image files as pixels, within limits."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from workers.errors import InputError, TooLarge

__all__ = ["decode_image"]

FORMATS = ("PNG", "JPEG", "WEBP")

# Modes that become 8-bit RGB without losing anything but colour management.
OPAQUE = ("RGB", "L", "P", "1")


def decode_image(data: bytes | memoryview, max_pixels: int) -> NDArray[np.uint8]:
    """Pixels of a PNG, JPEG or WebP file, turned as its EXIF orientation says.

    Args:
        data: the file.
        max_pixels: checked on the header, before anything is decompressed.

    Returns:
        uint8[h, w, 3], RGB.

    Raises:
        InputError: another format, damaged, more than 8 bits, or with transparency.
        TooLarge: more pixels than allowed.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            # Pillow warns of sizes that our own limit judges.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if image.width * image.height > max_pixels:
                raise TooLarge(
                    f"image of {image.width}x{image.height} pixels; at most {max_pixels} allowed"
                )
            if image.mode not in OPAQUE or "transparency" in image.info:
                raise InputError(
                    f"image of mode {image.mode}; send 8-bit RGB or grey without transparency"
                )
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError as error:
        raise InputError("image: not a PNG, JPEG or WebP file") from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"image: too many pixels; at most {max_pixels} allowed") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"image: damaged file ({error})") from error
