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
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.images.check.align import Placement, upright
from trustscale_server.pixels.boxes import Box
from trustscale_server.things import reading
from trustscale_server.things.faces import FindFaces

ThingKind = Literal["face", "text"]
FoundIn = Literal["both", "small", "large"]

_MOST_PIXELS: Final = 2 * 2**20  # of what is looked at: seconds of a core, for each picture
_MAX_ZOOM: Final = 4.0  # of the small picture
_SAME: Final = 0.3  # of the joint area of two boxes that are one thing
_MOST: Final = 50  # things that are listed


def _about(text: str) -> Any:
    return Field(description=text)


@dataclass(frozen=True, slots=True)
class Thing:
    """A face or a line of text, and which of the pictures shows it."""

    kind: ThingKind
    box: Annotated[list[int], _about("Left, top, right and bottom in pixels of the large picture.")]
    found_in: Annotated[FoundIn, _about("Which pictures show it.")]
    why: Annotated[str, _about("In a sentence for people.")]
    reads: Annotated[
        list[str] | None,
        _about("Of a line of text: what is read in the small and in the large picture."),
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


class _Detection(NamedTuple):
    """A thing in one picture, in pixels of what is looked at; text: of a line."""

    box: Box
    text: str = ""


def looked_at(pixels: int) -> int:
    """Return in how many pixels at most a small picture of so many is looked at."""
    return min(_MOST_PIXELS, round(_MAX_ZOOM**2 * pixels))


def things_of(
    small: Image.Image, large: Image.Image, placement: Placement, finders: Finders
) -> list[Thing]:
    """Return the faces and lines of text of two RGB pictures, those that differ first."""
    if finders == Finders():
        return []
    left, top, right, bottom = placement.rectangle
    size = right - left, bottom - top
    zoom = min(_MAX_ZOOM, *placement.scales, math.sqrt(_MOST_PIXELS / math.prod(size)))
    seen_as = max(1, round(zoom * size[0])), max(1, round(zoom * size[1]))
    picture, box = upright(placement.oriented(large), placement)
    views = [
        np.asarray(small.resize(seen_as, Image.Resampling.BICUBIC, placement.rectangle)),
        np.asarray(picture.resize(seen_as, Image.Resampling.BICUBIC, box, reducing_gap=2)),
    ]
    matches: list[tuple[ThingKind, _Detection | None, _Detection | None]] = []
    if finders.faces is not None:
        faces = [[_Detection(face[:4]) for face in finders.faces(view, 1)] for view in views]
        matches += [("face", *pair) for pair in _matched(*faces)]
    if finders.lines is not None:
        lines = [[_detected(line) for line in finders.lines(view)] for view in views]
        matches += [("text", *pair) for pair in _matched(*lines)]
    pace = np.array(size) / seen_as
    things = []
    for kind, ours, theirs in matches:
        detection = theirs or ours
        assert detection is not None  # noqa: S101 - one of both is there
        corners = np.array(detection.box)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) * pace + (
            left,
            top,
        )
        things.append(_thing(kind, list(placement.box_in_large(corners, large.size)), ours, theirs))
    return sorted(things, key=lambda thing: not thing.differs)[:_MOST]


def sentences_about(things: Sequence[Thing]) -> Iterator[str]:
    """Say of which things one picture shows something else."""
    faces = [thing for thing in things if thing.kind == "face" and thing.found_in == "large"]
    if faces:
        subject = "A face is" if len(faces) == 1 else f"{len(faces)} faces are"
        yield f"{subject} found in the large picture only."
    lines = [thing for thing in things if thing.kind == "text" and thing.differs]
    if lines:
        subject = "A line of text reads" if len(lines) == 1 else f"{len(lines)} lines of text read"
        yield f"{subject} otherwise in the large picture than in the small one."


def _thing(
    kind: ThingKind, box: list[int], ours: _Detection | None, theirs: _Detection | None
) -> Thing:
    found_in: FoundIn = "both" if ours and theirs else "large" if theirs else "small"
    if kind == "face":
        why = {
            "both": "A face is found in both pictures; nobody can tell whether it is one person.",
            "large": "A face is found in the large picture only: the small one may have none.",
            "small": "A face is found in the small picture only: the large one may have lost it.",
        }[found_in]
        return Thing(kind, box, found_in, why)
    reads = [detection.text if detection else "" for detection in (ours, theirs)]
    before, after = (f"“{text}”" if text else "nothing" for text in reads)
    why = f"The small picture reads {before} here, the large one {after}."
    if reading.compared_of(reads[0]) == reading.compared_of(reads[1]):
        why = f"Both pictures read {after} here." if reads[1] else "Here is text that nobody reads."
    return Thing(kind, box, found_in, why, reads)


def _detected(line: reading.Line) -> _Detection:
    (left, top), (right, bottom) = line.corners.min(axis=0), line.corners.max(axis=0)
    box = float(left), float(top), float(right), float(bottom)
    return _Detection(box, " ".join(word.text for word in line.words))


def _matched(
    ours: Sequence[_Detection], theirs: Sequence[_Detection]
) -> Iterator[tuple[_Detection | None, _Detection | None]]:
    """Things of both pictures, side by side where their boxes say that they are one."""
    unmatched = list(ours)
    for detection in theirs:
        same = max(
            unmatched, key=lambda candidate: _joint(candidate.box, detection.box), default=None
        )
        if same is not None and _joint(same.box, detection.box) >= _SAME:
            unmatched.remove(same)
            yield same, detection
        else:
            yield None, detection
    for detection in unmatched:
        yield detection, None


def _joint(first: Box, second: Box) -> float:
    """The share of two boxes' joint area that both cover."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    if min(wide, high) <= 0:
        return 0.0
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return wide * high / (sum(areas) - wide * high)
