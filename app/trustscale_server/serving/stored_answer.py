"""A stored answer, read: its document, and the pixels and texts of its files."""

from __future__ import annotations

import io
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pydantic import Field, TypeAdapter

from trustscale_server.images.metadata import Metadata, marks_of
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.errors import NotFound
from trustscale_server.proof.pixel_digest import colours_of
from trustscale_server.serving.document import Picture, Result, Unmasked

_STORED: Final[TypeAdapter[Result | Unmasked]] = TypeAdapter(
    Annotated[Result | Unmasked, Field(discriminator="mask")]
)


def stored_picture(document: bytes) -> Result | Unmasked:
    """Return the document of a stored answer."""
    return _STORED.validate_json(document)


def stored_result(document: bytes) -> Result:
    """Return the document of a stored answer with a mask. Raises NotFound: it has none."""
    answer = stored_picture(document)
    if isinstance(answer, Unmasked):
        raise NotFound(
            f"{answer.id} was asked for with mask=none: it has no mask and no guarantee."
        )
    return answer


def image_file(result: Picture) -> str:
    """Return the name of the picture's file in a stored result."""
    return result.links.image.rsplit("/", 1)[-1]


def read_mask(data: bytes) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Return a stored mask, bool [H, W], and the text chunks of its file."""
    with Image.open(io.BytesIO(data)) as file:
        assert isinstance(file, PngImageFile)  # noqa: S101 - masks are made by `to_png`
        return np.asarray(file), dict(file.text)


def read_codes(data: bytes) -> NDArray[np.uint16]:
    """Return the stored trust levels, uint16 [H, W] (`StepCurve.trust_code`)."""
    with Image.open(io.BytesIO(data)) as file:
        return np.asarray(file).astype(np.uint16)


def read_image(image: bytes) -> tuple[NDArray[np.uint8], Metadata]:
    """Return the pixels of a stored picture, as `pixels_of`, and the marks in its file."""
    with Image.open(io.BytesIO(image)) as picture:
        return pixels_of(picture), marks_of(picture)


def pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a stored picture, uint8 [H, W, 3], or 4 where it has transparent pixels."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.uint16)
        return np.repeat(to_8_bit(levels)[..., np.newaxis], 3, axis=2)
    return colours_of(picture)
