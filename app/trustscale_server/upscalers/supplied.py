"""An upscaler without an address: its owner enlarges a picture elsewhere, and sends both.

What made the picture is what its owner states, since nobody can see it from outside: a calibration
is valid for that statement, and every answer repeats it as a condition. Otherwise such a picture is
the one sample of any other upscaler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from trustscale_server.pixels.placement import Placement
from trustscale_server.pixels.registration import align
from trustscale_server.platform.errors import BadImage, UpscalerRejected
from trustscale_server.platform.tasks import shielded
from trustscale_server.upscalers.alignment import alignment
from trustscale_server.upscalers.base import RGB, SUPPLIED, Capabilities, Source, fingerprint_of
from trustscale_server.upscalers.config import EntryConfig
from trustscale_server.upscalers.permit import MemoryPermit

_PRECISION: Final = 50  # parts of a pixel of X in which a shift is measured

_IN_PLACE: Final = 0.2
"""Pixels of X: the shift up to which a picture stays as it is. Faithful ones of 128 pixels seem to
have up to .06, smaller ones without much form more; the least true one is .25, of ×2."""


_Stated = Annotated[
    str, Field(max_length=80, pattern=r"^([^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?)?$")
]


class SuppliedConfig(EntryConfig):
    """A program elsewhere, whose pictures come with the uploads."""

    kind: Literal["supplied"]
    scale: PositiveInt = Field(description="How many times longer the output's sides are.")
    program: Annotated[_Stated, Field(min_length=1)] = Field(
        description="What enlarges the pictures, such as `Topaz Photo`. Answers repeat it."
    )
    version: _Stated = Field(
        "", description="Its version; pictures of another one need a calibration of their own."
    )
    settings: _Stated = Field(
        "", description="Its model and settings, such as `Standard, denoise 0`; the same holds."
    )

    @property
    def concurrency(self) -> int:
        """How many pictures are looked at side by side."""
        return 1

    @property
    def stated(self) -> str:
        """What enlarges the pictures, in words."""
        program = f"{self.program} {self.version}".strip()
        details = f" ({self.settings})" if self.settings else ""
        return f"{program}{details}, ×{self.scale}"


class SuppliedUpscaler:
    """Gives the picture that came with the input (`Source.enlarged`)."""

    kind = SUPPLIED

    def __init__(self, config: SuppliedConfig) -> None:
        self.name, self.scale, self.stated = config.name, config.scale, config.stated
        self.settings: Mapping[str, object] = {
            "kind": SUPPLIED,
            "scale": config.scale,
            "program": config.program,
            "version": config.version,
            "settings": config.settings,
        }
        self.fingerprint = fingerprint_of(self.settings)
        self.capabilities = Capabilities(
            seeds=False, max_samples=1, by_tiles=True, align_colours=config.align_colours
        )

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        """Return the picture that was sent, moved onto the pixels of the input.

        Raises:
            BadImage: it does not fit the input.
            UpscalerRejected: none was sent.
        """
        enlarged = source.enlarged
        if enlarged is None:
            raise UpscalerRejected(
                f"{self.name!r} has no address: send the picture that was enlarged, too, as "
                "`enlarged`."
            )
        if permit is not None:
            await permit.take()
        sample = await shielded(registered, source.rgb, enlarged, self.scale)
        return [sample for _ in seeds]

    async def probe(self) -> None:
        """Return: there is nothing to be reached."""

    async def close(self) -> None:
        """Return: there is nothing to be closed."""


def size_mismatch(small: tuple[int, int], enlarged: tuple[int, int], scale: int) -> str | None:
    """Explain why a picture of this width and height is no enlargement; None if it may be one."""
    expected = small[0] * scale, small[1] * scale
    if enlarged == expected:
        return None
    ratio = enlarged[0] / small[0], enlarged[1] / small[1]
    return (
        f"the enlarged picture has {enlarged[0]}×{enlarged[1]} pixels, which is "
        f"{ratio[0]:.4g}×{ratio[1]:.4g} times {small[0]}×{small[1]}; ×{scale} is "
        f"{expected[0]}×{expected[1]}"
    )


def registered(small: RGB, enlarged: RGB, scale: int) -> RGB:
    """Return a picture that somebody enlarged on the pixels of the input.

    It is moved where its content is off by a part of a pixel of the input, as programs disagree on
    where pixels have their centres; by an edge that repeats.

    Args:
        small: uint8 [h, w, 3].
        enlarged: uint8 [H, W, 3].
        scale: k.

    Returns:
        uint8 [k·h, k·w, 3].

    Raises:
        BadImage: it has another size, or shows something else; the text says what.
    """
    sizes = [(image.shape[1], image.shape[0]) for image in (small, enlarged)]
    if (reason := size_mismatch(sizes[0], sizes[1], scale)) is not None:
        raise BadImage(f"The pictures do not fit: {reason}.")
    before = alignment(small, enlarged, scale, precision=_PRECISION)
    shift = max(map(abs, before.shift)) / scale  # in pixels of X
    if before.windows == 0 or (before.problem is None and shift <= _IN_PLACE):
        return enlarged
    if shift <= 1:  # pixel of X; a picture is not moved farther
        moved = _moved(enlarged, before.shift)
        after = alignment(small, moved, scale, precision=_PRECISION)
        if after.problem is None and max(map(abs, after.shift)) / scale <= shift / 2:
            return moved
    if before.problem is None:  # what was measured is no shift
        return enlarged
    raise BadImage(f"The pictures do not fit: {_difference(small, enlarged, before.problem)}.")


def _moved(picture: RGB, shift: tuple[float, float]) -> RGB:
    """The picture without a shift, down and right in its pixels; at the edges it repeats."""
    margin = int(np.ceil(max(map(abs, shift)))) + 2
    padded = Image.fromarray(np.pad(picture, ((margin,) * 2, (margin,) * 2, (0, 0)), "edge"))
    height, width = picture.shape[:2]
    down, right = shift
    matrix = (1, 0, margin + right, 0, 1, margin + down)
    image = padded.transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return np.asarray(image)


def _difference(small: RGB, enlarged: RGB, problem: str) -> str:
    """What the enlarged picture shows in place of the small one."""
    image = Image.fromarray(small)
    placement = align(image, Image.fromarray(enlarged))
    if placement is None:
        return "no part of one was found in the other"
    return f"{problem}; {_in_words(placement, image.size)}"


def _in_words(placement: Placement, size: tuple[int, int]) -> str:
    left, top, right, bottom = placement.rectangle
    across, down = placement.scales
    text = (
        f"it shows columns {left} to {right} and rows {top} to {bottom} of {size[0]}×{size[1]}, "
        f"enlarged {across:.3g}×{down:.3g} times"
    )
    if placement.orientation.mirrored:
        text += ", mirrored"
    if placement.orientation.turns:
        text += f", turned by {90 * placement.orientation.turns}°"
    return text
