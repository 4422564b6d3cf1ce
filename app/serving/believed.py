"""`believed.png`: the picture where it is trusted, something plain elsewhere.

The plain picture is kept with the answer, for the masks of other α.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from app.images.drawings import composed
from app.images.encode import FORMS, picture, png_rgb
from app.images.facts import UPLOAD, Facts, classify
from app.upscalers.base import RGB
from app.upscalers.embedded import WITNESS

Outside = Literal["upload", "witness"]

BELIEVED: Final = "believed.png"
REST: Final = "rest"
"""The stored file that fills the untrusted part."""

_FADE: Final = 2  # pixels of the upload
_QUALITY: Final = 95
_WORDS: Final[Mapping[Outside, str]] = {
    "upload": "the upload, enlarged without a model",
    "witness": f"what the faithful model ({WITNESS}) made of the upload",
}


class Believed(BaseModel):
    """What `believed.png` is."""

    outside: Outside = Field(description="What it shows outside the mask.")
    statement: str = Field(description="What is promised of it.")
    is_sent: bool = Field(description="Whether zips of this answer hold it (`believed=true`).")


@dataclass(frozen=True, slots=True)
class Rest:
    """What fills the untrusted part: its description and its file."""

    believed: Believed
    data: bytes


def rest_of(upload: RGB, facts: Facts, witness: RGB | None) -> tuple[Outside, bytes]:
    """The witness's answer to a sharp, lossless upload, if there is one, else the upload.

    The witness turns traces of compression and noise into wires.
    """
    if (
        witness is None
        or classify(UPLOAD, facts) != "lossless"
        or witness.shape == upload.shape
        or max(witness.shape) > FORMS["jpeg"].most
    ):
        return "upload", png_rgb(upload)
    # Nothing is promised of it, so it may be small.
    return "witness", picture(witness, "jpeg", quality=_QUALITY)


def believed_of(outside: Outside, *, blurs: bool, is_sent: bool) -> Believed:
    """The file's description; blurs: whether an error is a mean over neighbours."""
    statement = (
        "Inside the mask these are the pixels of the picture, unchanged, and the promise about "
        f"the mask is about them. Outside it is {_WORDS[outside]}, faded in beside the mask: "
        "nothing is promised of it."
    )
    if blurs:
        statement += (
            " The error at a pixel is a mean over its neighbours in the picture itself, also where "
            "this file shows something else."
        )
    return Believed(outside=outside, statement=statement, is_sent=is_sent)


def png_believed(
    made: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    rest: Rest,
    text: Mapping[str, str],
    scale: float,
) -> bytes:
    """The file; scale: width of the picture over that of the upload."""
    with Image.open(io.BytesIO(rest.data)) as plain:
        drawn = composed(made, mask, plain.convert("RGB"), max(1, round(_FADE * scale)))
    return png_rgb(drawn, {**text, "trustscale:believed": rest.believed.statement})
