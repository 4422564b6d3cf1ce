"""A model caught lying: the place that it rewrote most, and whether that had been marked.

The truth is a sharp photograph; what a model gets is the same, reduced by the model's scale.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from trustscale_server.images.catch_card import catch_card
from trustscale_server.images.degrade import crop_to_multiple
from trustscale_server.images.rewritten import worst
from trustscale_server.pixels.resize import resized, size_within

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

# Pixels of the longer side that a photograph is reduced to first: then it is sharp, and quick.
_MAX_SIDE: Final = 2048

# Badness below which nobody sees what was rewritten: looked at in 28 cards of two models.
_MIN_BADNESS: Final = 0.005


class Caught(BaseModel):
    """The place of a picture that its model rewrote most."""

    box: tuple[int, int, int, int] = Field(
        description="Left, top, right and bottom of the place, in pixels of the picture."
    )
    badness: float = Field(
        description="How much it was rewritten, in [0, 1]: by structure and contrast, not by error."
    )
    marked: float | None = Field(
        description="The share of the place that was marked as not to be relied on; null if "
        "nothing was promised of the picture."
    )
    verdict: str = Field(description="The same in words.")


def reduced_pair(
    photograph: NDArray[np.uint8], scale: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a photograph, uint8 [H, W, 3], as (X, Y): Y of at most 2,048 pixels a side.

    Y has sides that are multiples of the scale; X is Y reduced by it.
    """
    height, width = photograph.shape[:2]
    size = size_within((width, height), min(_MAX_SIDE, max(width, height)))
    truth = photograph if size == (width, height) else _reduced(photograph, size)
    truth = np.ascontiguousarray(crop_to_multiple(truth, scale))
    return _reduced(truth, (truth.shape[1] // scale, truth.shape[0] // scale)), truth


def _reduced(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(resized(picture, size, Image.Resampling.BICUBIC), np.uint8)


def caught(
    truth: NDArray[np.uint8], output: NDArray[np.uint8], trusted: NDArray[np.bool_] | None
) -> Caught | None:
    """Return the worst place of a picture, uint8 [H, W, 3]; None: nothing that can be seen.

    trusted: its mask, bool [H, W]; None: nothing was promised.
    """
    places = worst(truth, output)
    if not places or places[0].badness < _MIN_BADNESS:
        return None
    box, badness = places[0].box, places[0].badness
    if trusted is None:
        verdict = "Nothing was promised of this picture."
        return Caught(box=box, badness=badness, marked=None, verdict=verdict)
    marked = 1 - float(_within(trusted, box).mean())
    verdict = "Trustscale had marked it." if marked >= 0.5 else "Trustscale had not marked it."
    return Caught(box=box, badness=badness, marked=marked, verdict=verdict)


def caught_card(
    catch: Caught,
    x: NDArray[np.uint8],
    output: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    *,
    upscaler: str,
) -> NDArray[np.uint8]:
    """Return the card, uint8 [630, 1200, 3]; x: what was sent, uint8 [h, w, 3]."""
    scale = output.shape[1] / x.shape[1]
    large = _reduced(x, (output.shape[1], output.shape[0]))  # enlarged, without a model
    sent, ours, was = (_within(picture, catch.box) for picture in (large, output, truth))
    return catch_card(sent, ours, was, verdict=catch.verdict, upscaler=upscaler, scale=scale)


def _within(picture: NDArray[Pixel], box: tuple[int, int, int, int]) -> NDArray[Pixel]:
    left, top, right, bottom = box
    return picture[top:bottom, left:right]
