"""What can be told of a small picture and a large one that somebody made of it.

No model and no calibration: so a contradiction is shown, and its absence proves nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.placement import Placement, Rectangle
from trustscale_server.pixels.registration import align
from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import BadImage
from trustscale_server.proof.check.compare import (
    Compared,
    Plane,
    Upright,
    compare_pictures,
    unsourced_detail,
)
from trustscale_server.proof.check.document import Check, Contradiction, Found
from trustscale_server.proof.check.things import Finders, sentences_about, things_of

_MIN_SIDE: Final = 16
_MAX_MAP: Final = 1024  # pixels on the longest side


class Checked(NamedTuple):
    """The document, and where the small picture lies; None: nowhere."""

    check: Check
    placement: Placement | None = None


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
    if placement is None:
        return Checked(_strangers(ours, theirs))
    upright = Upright.from_placement(theirs, placement)
    compared = compare_pictures(ours.crop(placement.rectangle), upright)
    added = unsourced_detail(upright, compared.reduced)
    contradictions, number = _contradictions(compared, placement, theirs.size)
    things = things_of(ours, theirs, placement, finders or Finders())
    mean = float(np.sqrt(np.mean(np.square(added))))
    check = Check(
        belong_together=True,
        sentences=[
            *_about_placement(placement, ours.size),
            *_about_differences(compared, number),
            *sentences_about(things),
            *_about_what_nobody_knows(mean),
        ],
        consistency_db=round(compared.decibels, 1),
        contradictions=contradictions,
        things=things,
        added=round(mean, 1),
        found=Found(
            scale=[round(scale, 3) for scale in placement.scales],
            mirrored=placement.orientation.mirrored,
            quarter_turns=placement.orientation.turns,
            degrees=round(placement.degrees, 2),
            shown=list(placement.rectangle),
            reduction=compared.reduction,
        ),
        maps={"contradictions": _map(compared.excess * 64), "added": _map(added * 8)},
    )
    return Checked(check, placement)


def _strangers(small: Image.Image, large: Image.Image) -> Check:
    sentence = "They do not belong together: no part of the large picture looks like the small one."
    if small.width * small.height > large.width * large.height:
        sentence += " The first picture is the larger one: were they exchanged?"
    return Check(belong_together=False, sentences=[sentence])


def _contradictions(
    compared: Compared, placement: Placement, size: tuple[int, int]
) -> tuple[list[Contradiction], int]:
    """The places where the limit is passed, the largest excess first, and how many there are."""
    passed = compared.excess > 1
    near = scipy.ndimage.binary_dilation(passed, iterations=2)  # pixels between two of them
    labels, number = scipy.ndimage.label(near, np.ones((3, 3)))
    labels[~passed] = 0
    peaks = scipy.ndimage.maximum(compared.excess, labels, np.arange(1, number + 1))
    places = scipy.ndimage.find_objects(labels, number)
    contradictions = []
    for index in sorted(range(number), key=lambda index: -float(peaks[index]))[:50]:
        place = places[index]
        inside = np.where(labels[place] == index + 1, compared.excess[place], 0)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        contradictions.append(
            Contradiction(
                box=list(_box(place, placement, size)),
                why=_why(compared, (place[0].start + row, place[1].start + column)),
                times=round(float(peaks[index]), 2),
            )
        )
    return contradictions, number


def _box(place: tuple[slice, slice], placement: Placement, size: tuple[int, int]) -> Rectangle:
    """Rows and columns of what is compared, in the large picture of this size."""
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


def _about_placement(placement: Placement, size: tuple[int, int]) -> Iterator[str]:
    left, top, right, bottom = placement.rectangle
    share = (right - left) * (bottom - top) / (size[0] * size[1])
    if share < 0.98:
        yield f"The large picture shows {share:.0%} of the small one; the rest is not told."
    if placement.orientation.mirrored:
        yield "The large picture is mirrored."


def _about_differences(compared: Compared, number: int) -> Iterator[str]:
    """Say at how many places it contradicts, and how its colours differ as a whole."""
    if number:
        where = "at one place" if number == 1 else f"at {number} places"
        yield f"The large picture contradicts the small one {where}."
    else:
        yield "No contradiction was found."
    lightness, blue, red = compared.offset
    if max(map(abs, compared.offset)) > 6:  # levels
        yield (
            f"Its colours differ as a whole (lightness by {lightness:+.0f} levels of 255, blue by "
            f"{blue:+.0f}, red by {red:+.0f}); places were compared without that."
        )


def _about_what_nobody_knows(added: float) -> Iterator[str]:
    yield (
        f"It adds detail of {added:.1f} levels of 255 that has no source in the small picture; "
        "nobody can tell from the two whether it is right."
    )
    yield (
        "Silence proves nothing: what is finer than a pixel of the small picture, such as a letter "
        "or the look of a face, may be invented anywhere."
    )


def _map(values: Plane) -> str:
    """A PNG file of a map as a link."""
    picture = Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
    if max(picture.size) > _MAX_MAP:
        picture = picture.resize(size_within(picture.size, _MAX_MAP), Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
