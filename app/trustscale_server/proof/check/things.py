"""Faces and lines of text in a small picture and in a large one: what only one of them shows.

Both are looked at in one size and place: the small one plainly enlarged, since a model may invent a
face or a letter, and the large one reduced to that. A face that is in the large one only may be
invented, or was too small to be found; a reader guesses at blurred letters. So all of it is told,
and none of it is a contradiction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.pixels.boxes import Box
from trustscale_server.pixels.placement import Placement, unrotated
from trustscale_server.things import reading
from trustscale_server.things.faces import FindFaces

ThingKind = Literal["face", "text"]
FoundIn = Literal["both", "small", "large"]

_MAX_PIXELS: Final = 2 * 2**20  # of what is looked at: seconds of a core, for each picture
_MAX_ZOOM: Final = 4.0  # of the small picture

_FACES: Final[dict[FoundIn, str]] = {
    "both": "A face is found in both pictures; nobody can tell whether it is one person.",
    "large": "A face is found in the large picture only: the small one may have none.",
    "small": "A face is found in the small picture only: the large one may have lost it.",
}


@dataclass(frozen=True, slots=True)
class Thing:
    """A face or a line of text, and which of the pictures shows it."""

    kind: ThingKind
    box: Annotated[
        list[int], Field(description="Left, top, right and bottom in pixels of the large picture.")
    ]
    found_in: Annotated[FoundIn, Field(description="Which pictures show it.")]
    why: Annotated[str, Field(description="In a sentence for people.")]
    reads: Annotated[
        list[str] | None,
        Field(description="Of a line of text: what is read in the small and in the large picture."),
    ] = None

    @property
    def differs(self) -> bool:
        """Whether one picture shows something else here than the other."""
        return self.found_in != "both" or (
            self.reads is not None and len({reading.compared_of(text) for text in self.reads}) > 1
        )


class Finders(NamedTuple):
    """What looks for faces and for lines of text; None: neither is looked for."""

    faces: FindFaces | None = None
    lines: Callable[[NDArray[np.uint8]], list[reading.Line]] | None = None


def finders(faces: FindFaces | None) -> Finders:
    """Return what there is here: a reader only with the extra `text`."""
    lacks_reader = reading.missing(ReaderSettings()) is not None
    return Finders(faces, None if lacks_reader else reading.read_lines)


def looked_at(pixels: int) -> int:
    """Return the most pixels in which a small picture of `pixels` is looked at."""
    return min(_MAX_PIXELS, round(_MAX_ZOOM**2 * pixels))


def things_of(
    small: Image.Image, large: Image.Image, placement: Placement, finders: Finders
) -> list[Thing]:
    """Return the faces and lines of text of two RGB pictures, those that differ first."""
    if finders.faces is None and finders.lines is None:
        return []
    views = _views(small, large, placement)
    left, top, right, bottom = placement.rectangle
    pace = np.array([right - left, bottom - top]) / views[0].shape[1::-1]

    def in_large(box: Box) -> list[int]:
        corners = np.array(box)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) * pace + (left, top)
        return list(placement.box_in_large(corners, large.size))

    things = []
    if finders.faces is not None:
        faces = ([_Detection(face[:4]) for face in finders.faces(view, 1)] for view in views)
        things += [
            Thing("face", in_large(match.box), match.found_in, _FACES[match.found_in])
            for match in _matched(*faces)
        ]
    if finders.lines is not None:
        lines = ([_detected(line) for line in finders.lines(view)] for view in views)
        things += [
            Thing("text", in_large(match.box), match.found_in, _compared(*match.reads), match.reads)
            for match in _matched(*lines)
        ]
    return sorted(things, key=lambda thing: not thing.differs)[:50]  # that are listed


def sentences_about(things: Sequence[Thing]) -> Iterator[str]:
    """Say which things one picture shows otherwise than the other."""
    faces = [thing for thing in things if thing.kind == "face" and thing.found_in == "large"]
    if faces:
        subject = "A face is" if len(faces) == 1 else f"{len(faces)} faces are"
        yield f"{subject} found in the large picture only."
    lines = [thing for thing in things if thing.kind == "text" and thing.differs]
    if lines:
        subject = "A line of text reads" if len(lines) == 1 else f"{len(lines)} lines of text read"
        yield f"{subject} otherwise in the large picture than in the small one."


def _views(
    small: Image.Image, large: Image.Image, placement: Placement
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What both show, in one size: as large as the large picture, but not too large to look at."""
    left, top, right, bottom = placement.rectangle
    width, height = right - left, bottom - top
    zoom = min(_MAX_ZOOM, *placement.scales, math.sqrt(_MAX_PIXELS / (width * height)))
    size = max(1, round(zoom * width)), max(1, round(zoom * height))
    picture, box = unrotated(placement.orientation.applied(large), placement)
    return (
        np.asarray(small.resize(size, Image.Resampling.BICUBIC, placement.rectangle)),
        np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=2)),
    )


class _Detection(NamedTuple):
    """A thing in one view, in its pixels; text: of a line."""

    box: Box
    text: str = ""


class _Match(NamedTuple):
    """A thing of one view or of both; reads: in the small and in the large one."""

    box: Box
    found_in: FoundIn
    reads: list[str]


def _detected(line: reading.Line) -> _Detection:
    (left, top), (right, bottom) = line.corners.min(axis=0), line.corners.max(axis=0)
    box = float(left), float(top), float(right), float(bottom)
    return _Detection(box, " ".join(word.text for word in line.words))


def _matched(small: Sequence[_Detection], large: Sequence[_Detection]) -> Iterator[_Match]:
    """The things of both views, each once where their boxes say that they are one."""
    unmatched = list(small)
    for theirs in large:
        ours = max(unmatched, key=lambda each: _overlap(each.box, theirs.box), default=None)
        if ours is not None and _overlap(ours.box, theirs.box) >= 0.3:
            unmatched.remove(ours)
            yield _Match(theirs.box, "both", [ours.text, theirs.text])
        else:
            yield _Match(theirs.box, "large", ["", theirs.text])
    for ours in unmatched:
        yield _Match(ours.box, "small", [ours.text, ""])


def _overlap(first: Box, second: Box) -> float:
    """The share of two boxes' joint area that both cover."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    if min(wide, high) <= 0:
        return 0.0
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return wide * high / (sum(areas) - wide * high)


def _compared(before: str, after: str) -> str:
    """Say what both pictures read."""
    if reading.compared_of(before) != reading.compared_of(after):
        ours, theirs = (f"“{text}”" if text else "nothing" for text in (before, after))
        return f"The small picture reads {ours} here, the large one {theirs}."
    return f"Both pictures read “{after}” here." if after else "Here is text that nobody reads."
