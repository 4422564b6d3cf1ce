"""The files of a result: their names, the facts that they carry, and those made when asked for."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from app import __version__
from app.calibration.record import Calibration
from app.errors import BadRequest
from app.images.encode import BEST_QUALITY, DEFAULT_QUALITY, FORMS, FormName, png_rgb
from app.images.overlay import overlay
from app.serving.answer import Result

MASK: Final = "mask.png"
TRUST: Final = "trust.png"
SIGMA: Final = "sigma.f32"
INPUT: Final = "input.digest"
"""Tells whether two results are of the same image."""


@dataclass(frozen=True, slots=True)
class ChosenForm:
    """The form of one answer's picture."""

    name: FormName
    quality: int | None

    @property
    def file(self) -> str:
        """The name of the picture's file."""
        return f"image.{self.name}"

    @property
    def bytes_per_pixel(self) -> int:
        """What making the file takes at most, beside the picture."""
        return FORMS[self.name].bytes_per_pixel(self.quality or DEFAULT_QUALITY)

    @property
    def is_lossless(self) -> bool:
        """Whether the file holds the very pixels that the mask speaks about."""
        return FORMS[self.name].is_lossless(self.quality)

    def check(self, longest: int, *, transparent: bool) -> None:
        """Return if a picture with a longest side of so many pixels can have it.

        Raises:
            BadRequest: it cannot.
        """
        form = FORMS[self.name]
        if longest > form.most:
            raise BadRequest(f"format={self.name} holds at most {form.most:,} pixels a side.")
        if transparent and not form.alpha:
            raise BadRequest(
                f"The image has transparent pixels, which format={self.name} cannot hold: choose "
                "another format, or send background=white."
            )

    def warnings(self) -> list[str]:
        """What its reader must know."""
        if self.is_lossless:
            return []
        warning = (
            f"The picture was compressed as {self.name} after the mask was made: the promise "
            "speaks about the picture before that (format=png or tiff)."
        )
        return [warning]


def form_of(name: str, quality: int | None) -> ChosenForm:
    """The form that a request names.

    Raises:
        BadRequest: there is none of this name, or it has no such quality.
    """
    if name not in FORMS:
        raise BadRequest(f"format must be one of {', '.join(FORMS)}.")
    form = cast("FormName", name)
    if quality is not None and FORMS[form].lossless:
        raise BadRequest(f"format={form} is lossless: it has no quality.")
    if quality is not None and not 1 <= quality <= BEST_QUALITY:
        raise BadRequest(f"quality must be between 1 and {BEST_QUALITY}.")
    return ChosenForm(form, quality)


def image_file(result: Result) -> str:
    """The name of the picture's file in a stored result."""
    return result.links.image.rsplit("/", 1)[-1]


def png_text(
    calibration: Calibration, alpha: float, group: str | None = None, input_class: str | None = None
) -> dict[str, str]:
    """Text chunks that tell where a file comes from, once it has left the service."""
    promise = calibration.guarantee
    facts = {"trustscale:group": group} if group is not None else {}
    if input_class is not None:
        facts["trustscale:input_class"] = input_class
    if promise.kind == "high_probability":
        facts["trustscale:delta"] = repr(promise.delta)
    return {
        "Software": f"trustscale {__version__}",
        "trustscale:calibration": calibration.id,
        "trustscale:alpha": repr(alpha),
        "trustscale:threshold": repr(calibration.part(group, input_class).curve.threshold(alpha)),
        "trustscale:fingerprint": calibration.pipeline.fingerprint,
        **facts,
    }


def read_mask(data: bytes) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """A stored mask, bool [H, W], and what its file says."""
    with Image.open(io.BytesIO(data)) as file:
        assert isinstance(file, PngImageFile)  # noqa: S101 - masks are made by `png_mask`
        return np.asarray(file), dict(file.text)


def png_overlay(image: bytes, mask: bytes) -> bytes:
    """The overlay of an upscaled image of any form, from its mask file, whose facts it carries."""
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    trusted, text = read_mask(mask)
    return png_rgb(overlay(pixels, trusted), text)


def sigma_map(data: bytes, result: Result) -> NDArray[np.float32]:
    """σ of a stored result, float32 [H, W]."""
    return np.frombuffer(data, np.float32).reshape(result.height, result.width)
