"""What can be told of a small picture and a large one that somebody made of it.

No model and no calibration: so a contradiction is shown, and its absence proves nothing.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from trustscale_server.images.check.align import Placement, align
from trustscale_server.images.check.compare import (
    Compared,
    Plane,
    Reduction,
    Upright,
    compare_pictures,
    unsourced_detail,
)
from trustscale_server.images.check.things import (
    Finders,
    Thing,
    looked_at,
    sentences_about,
    things_of,
)
from trustscale_server.images.decode import decode
from trustscale_server.images.header import image_size
from trustscale_server.images.limits import Limits
from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import BadImage

SMALL: Final = Limits(max_bytes=64 * 2**20, max_pixels=16 * 2**20)
LARGE: Final = Limits(max_bytes=256 * 2**20, max_pixels=64 * 2**20, max_side=32768)

_LIKE: Final = 0.5
"""The least likeness of pictures that belong together (`benchmarks/check.py`)."""

_MOST: Final = 50  # contradictions that are listed
_APART: Final = 2  # pixels between two contradictions
_TINTED: Final = 6.0  # levels by which a whole picture is said to have other colours
_MAP: Final = 1024  # pixels on the longest side of a map
_MIN_SIDE: Final = 16
_BYTES: Final = (80, 16, 90)
"""Of memory for each pixel of the small and of the large picture, and of what is looked at."""

_SILENCE: Final = (
    "Silence proves nothing: what is finer than a pixel of the small picture, such as a letter or "
    "the look of a face, may be invented anywhere."
)
_STRANGERS: Final = (
    "They do not belong together: no part of the large picture looks like the small one."
)
_EXCHANGED: Final = " The first picture is the larger one: were they exchanged?"


def _about(text: str) -> Any:
    return Field(description=text)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A place where the large picture shows something else than the small one."""

    box: Annotated[
        list[int],
        _about("Left, top, right and bottom in pixels of the large picture."),
    ]
    why: Annotated[str, _about("In a sentence for people.")]
    times: Annotated[
        float, _about("The largest difference, in multiples of what a faithful enlargement has.")
    ]


@dataclass(frozen=True, slots=True)
class Found:
    """Where the small picture was found in the large one."""

    scale: Annotated[
        list[float],
        _about("Pixels of the large picture for one of the small, across and down."),
    ]
    mirrored: bool
    quarter_turns: Annotated[
        int, _about("Against the clock, which bring the large picture upright, once unmirrored.")
    ]
    degrees: Annotated[float, _about("By how much it is still rotated then, with the clock.")]
    shown: Annotated[
        list[int],
        _about("What of the small picture was compared: left, top, right and bottom in pixels."),
    ]
    reduction: Annotated[Reduction, _about("How the small picture was most probably made.")]


@dataclass(frozen=True, slots=True)
class Check:
    """What two pictures say of each other."""

    belong_together: bool
    sentences: Annotated[list[str], _about("All that is told, for people.")]
    consistency_db: Annotated[
        float | None,
        _about("How near the large picture comes when it is reduced: PSNR in decibels."),
    ] = None
    contradictions: list[Contradiction] = field(default_factory=list)
    things: Annotated[
        list[Thing],
        _about(
            "Faces, and with the extra `text` lines of text, in both pictures; those that differ "
            "first. None of them is a contradiction."
        ),
    ] = field(default_factory=list)
    added: Annotated[
        float | None,
        _about("Detail without a source: root mean square of lightness, in levels of 255."),
    ] = None
    found: Found | None = None
    maps: Annotated[
        dict[str, str],
        _about(
            "PNG files as `data:` links, of what was compared: `contradictions` (64 is the limit) "
            "and `added` (8 for each level of detail without a source)."
        ),
    ] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the pictures belong together and nothing contradicts."""
        return self.belong_together and not self.contradictions


class Checked(NamedTuple):
    """The document, and where the small picture lies; None: nowhere."""

    check: Check
    placement: Placement | None = None


def read_for_check(data: bytes, limits: Limits) -> NDArray[np.uint8]:
    """Return the pixels of a file, uint8 [H, W, 3]; transparent ones are on white.

    Raises ImageTooLarge, UnsupportedMedia, BadImage; runs in a decoder.
    """
    rgb = decode(data, limits, background="white").rgb
    if rgb.dtype != np.uint8:
        raise BadImage("Only pictures of 8 bits can be checked.")
    return np.asarray(rgb, np.uint8)


def size_of(data: bytes, limits: Limits) -> tuple[int, int]:
    """Return the width and height of a file; raises as `read_for_check`."""
    return image_size(data, limits)


def memory_of(small: tuple[int, int], large: tuple[int, int]) -> int:
    """Return how many bytes a check of pictures of these sizes takes at most."""
    pixels = math.prod(small), math.prod(large), looked_at(math.prod(small))
    return sum(
        bytes_per_pixel * number for bytes_per_pixel, number in zip(_BYTES, pixels, strict=True)
    )


def check_pictures(
    small: NDArray[np.uint8], large: NDArray[np.uint8], finders: Finders | None = None
) -> Checked:
    """Compare a small picture with a large one, both uint8 [H, W, 3].

    finders: of faces and text; None: neither is looked for.

    Raises BadImage: one has a side below 16 pixels.
    """
    if min(*small.shape[:2], *large.shape[:2]) < _MIN_SIDE:
        raise BadImage(f"A side of less than {_MIN_SIDE} pixels shows too little to compare.")
    ours, theirs = Image.fromarray(small), Image.fromarray(large)
    placement = align(ours, theirs)
    if placement is None or placement.likeness < _LIKE:
        is_swapped = ours.width * ours.height > theirs.width * theirs.height
        sentence = _STRANGERS + (_EXCHANGED if is_swapped else "")
        return Checked(Check(belong_together=False, sentences=[sentence]))
    upright = Upright.from_placement(placement.oriented(theirs), placement)
    compared = compare_pictures(ours.crop(placement.rectangle), upright)
    added = unsourced_detail(upright, compared.reduced)
    contradictions, number = _contradictions(compared, placement, theirs.size)
    things = things_of(ours, theirs, placement, finders or Finders())
    mean = float(np.sqrt(np.mean(np.square(added))))
    return Checked(
        Check(
            belong_together=True,
            sentences=_sentences(compared, number, mean, placement, ours.size, things),
            consistency_db=round(compared.decibels, 1),
            contradictions=contradictions,
            things=things,
            added=round(mean, 1),
            found=Found(
                scale=[round(scale, 3) for scale in placement.scales],
                mirrored=placement.mirrored,
                quarter_turns=placement.turns,
                degrees=round(placement.degrees, 2),
                shown=list(placement.rectangle),
                reduction=compared.reduction,
            ),
            maps={
                "contradictions": _map(compared.excess * 64),
                "added": _map(added * 8),
            },
        ),
        placement,
    )


def _contradictions(
    compared: Compared, placement: Placement, size: tuple[int, int]
) -> tuple[list[Contradiction], int]:
    """The places where the limit is passed, the largest excess first, and how many there are."""
    passed = compared.excess > 1
    near = scipy.ndimage.binary_dilation(passed, iterations=_APART)
    labels, number = scipy.ndimage.label(near, np.ones((3, 3)))
    labels[~passed] = 0
    peaks = scipy.ndimage.maximum(compared.excess, labels, np.arange(1, number + 1))
    places = scipy.ndimage.find_objects(labels, number)
    order = sorted(range(number), key=lambda index: -float(peaks[index]))[:_MOST]
    contradictions = []
    for index in order:
        place = places[index]
        box = _box(place, placement, size)
        inside = np.where(labels[place] == index + 1, compared.excess[place], 0)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        peak = place[0].start + row, place[1].start + column
        why = _why(compared, peak)
        contradictions.append(
            Contradiction(box=list(box), why=why, times=round(float(peaks[index]), 2))
        )
    return contradictions, number


def _box(
    place: tuple[slice, slice], placement: Placement, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Rows and columns of the rectangle as a box of the large picture."""
    left, top = placement.rectangle[:2]
    rows, columns = place
    x = left + np.array([columns.start, columns.stop, columns.stop, columns.start])
    y = top + np.array([rows.start, rows.start, rows.stop, rows.stop])
    return placement.box_in_large(np.stack([x, y], axis=1), size)


def _why(compared: Compared, place: tuple[int, int]) -> str:
    luma, blue, red = (float(plane[place]) for plane in compared.difference)
    if abs(luma) / compared.limit[place] >= compared.excess[place] * 0.99:
        return (
            f"Here the large picture is {abs(luma):.0f} levels of 255 "
            f"{'lighter' if luma > 0 else 'darker'} than the small one; a faithful enlargement "
            f"would stay within {compared.limit[place]:.0f}."
        )
    if abs(blue) > abs(red):
        tint = "bluer" if blue > 0 else "yellower"
    else:
        tint = "redder" if red > 0 else "greener"
    change = max(abs(blue), abs(red))
    return (
        f"Here the large picture is {tint} than the small one, by {change:.0f} levels of 255; a "
        f"faithful enlargement would stay within {change / compared.excess[place]:.0f}."
    )


def _sentences(
    compared: Compared,
    number: int,
    added: float,
    placement: Placement,
    size: tuple[int, int],
    things: list[Thing],
) -> list[str]:
    sentences = []
    left, top, right, bottom = placement.rectangle
    share = (right - left) * (bottom - top) / (size[0] * size[1])
    if share < 0.98:
        sentences.append(
            f"The large picture shows {share:.0%} of the small one; the rest is not told."
        )
    if placement.mirrored:
        sentences.append("The large picture is mirrored.")
    if number:
        where = "at one place" if number == 1 else f"at {number} places"
        sentences.append(f"The large picture contradicts the small one {where}.")
    else:
        sentences.append("No contradiction was found.")
    if max(map(abs, compared.offset)) > _TINTED:
        sentences.append(
            f"Its colours differ as a whole (lightness by {compared.offset[0]:+.0f} levels of "
            f"255, blue by {compared.offset[1]:+.0f}, red by {compared.offset[2]:+.0f}); places "
            "were compared without that."
        )
    sentences += sentences_about(things)
    sentences.append(
        f"It adds detail of {added:.1f} levels of 255 that has no source in the small picture; "
        "nobody can tell from the two whether it is right."
    )
    return [*sentences, _SILENCE]


def _map(values: Plane) -> str:
    """A PNG file of a map as a link."""
    picture = Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
    if max(picture.size) > _MAP:
        picture = picture.resize(size_within(picture.size, _MAP), Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
