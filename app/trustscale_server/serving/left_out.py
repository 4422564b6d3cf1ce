"""What a mask leaves out although its colours may be right: faces, and text that nobody reads.

A mask is read as "this is right", and a promise about colours says nothing of who somebody is or of
what is written. Any part of a valid mask is valid, since a loss in it is no larger: so what was
found here is trusted at no α. Calibrations do not look for it. Their pictures lose what is wrong
in faces, too, so thresholds are those of the larger mask, which bounds the smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.pixels.boxes import box_of
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.measure import measured_again
from trustscale_server.sampling.sigma.words import ReadPage
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.things import reading
from trustscale_server.things.faces import FindFaces
from trustscale_server.things.lines import Corners, FindLines
from trustscale_server.upscalers.base import Source

_Thing = Literal["face", "text"]

_FACE: Final = "A face. Nobody can promise who this is."
_TEXT: Final = "Text. No calibration for words calls it right."
_READABLE: Final = 736  # pixels on a side, from which on the reader enlarges nothing
_AROUND: Final = 32  # pixels around lines, at least
_LOOKS_LIKE_TEXT: Final = ("page", "line-art")  # at the end of the names of classes


class LeftOut(BaseModel):
    """A face or a piece of text that is trusted at no α."""

    kind: _Thing
    box: list[tuple[float, float]] = Field(
        description="The corners (x, y) of its box in pixels of the picture, in order around it."
    )
    why: str = Field(description="Why it is left out, in a sentence for people.")

    def enlarged(self, scale: float) -> LeftOut:
        """Return it in a picture that is so many times as large."""
        box = [(round(scale * x, 1), round(scale * y, 1)) for x, y in self.box]
        return self.model_copy(update={"box": box})

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what holds it."""
        (left, right), (top, bottom) = (
            (min(side), max(side)) for side in zip(*self.box, strict=True)
        )
        return left, top, right, bottom

    def pixels(self, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
        """Return its pixels in a picture, as rows and columns, and bool of their shape."""
        return box_of(np.array(self.box), shape)


def is_about_colours(settings: FidelitySettings) -> bool:
    """Whether a promise is about colours or structure, and not about meaning or words.

    What a person judged, or a reader read, keeps its faces and letters: they are what it is about.
    """
    return settings.spec.error_unit not in {"label", "words"}


def faces_of(rgb: Pixels, scale: int, find: FindFaces) -> list[LeftOut]:
    """Return the faces of an upload, [H, W, 3], in pixels of the output."""
    faces = []
    for face in find(to_8_bit(rgb), scale):
        left, top = (math.floor(scale * side) for side in (face.left, face.top))
        right, bottom = (math.ceil(scale * side) for side in (face.right, face.bottom))
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        faces.append(LeftOut(kind="face", box=corners, why=_FACE))
    return faces


@dataclass(frozen=True, slots=True)
class WordsCalibration:
    """A calibration for words that may call some of an upload right, at its own α.

    subset: its pairs for the upload. is_covered: whether it has such uploads.
    """

    subset: Subset
    is_covered: bool

    @property
    def alpha(self) -> float:
        return self.subset.manifest.default_alpha

    def judges(self, pipeline: MeasurementSpec) -> bool:
        """Whether it speaks about this upload and about the picture of this pipeline."""
        own = self.subset.pipeline
        return (
            self.is_covered
            and self.subset.shortfall(self.alpha) is None
            and reading.missing(own.fidelity.reader) is None
            and own.samples == 1
            and (pipeline.prediction == "first" or pipeline.samples == 1)
            and (own.fingerprint, own.scale, own.stretch)
            == (pipeline.fingerprint, pipeline.scale, pipeline.stretch)
        )


@dataclass(frozen=True, slots=True)
class LeavingOut:
    """How what is left out of a mask is found; None: it is not looked for. words: of `text_of`."""

    find_faces: FindFaces | None = None
    find_lines: FindLines | None = None
    words: WordsCalibration | None = None


def text_of(
    source: Source,
    prediction: Pixels,
    pipeline: MeasurementSpec,
    find: FindLines,
    words: WordsCalibration | None = None,
) -> list[LeftOut]:
    """Return the text of Ŷ or of the enlarged upload that is not called right.

    Needs the extra `text`. source: X. prediction: Ŷ, [H, W, 3]. find: in both, which is far quicker
    than to read them. words: None: there is none.
    """
    picture = to_8_bit(prediction)
    plain = to_8_bit(Enlarged(source.rgb, pipeline.scale)[: len(picture)])
    in_picture, in_plain = find([picture, plain])
    words_read: Sequence[reading.Word] = ()
    right: NDArray[np.bool_] | None = None
    if in_picture and words is not None and words.judges(pipeline):
        page = _read_near(in_picture, picture, plain, pipeline.scale)
        if words_read := page.words:
            subset = words.subset
            sigma = measured_again([prediction], source, subset.pipeline, page=page).sigma
            right = subset.curve.mask(sigma, words.alpha)
    return [
        LeftOut(
            kind="text",
            box=[(round(x, 1), round(y, 1)) for x, y in corners.tolist()],
            why=_TEXT,
        )
        for corners in _unread(words_read, right, [*in_picture, *in_plain], picture.shape)
    ]


def _read_near(
    lines: Sequence[Corners], picture: NDArray[np.uint8], plain: NDArray[np.uint8], scale: int
) -> ReadPage:
    """What is read of Ŷ around these lines: that part is a picture as well as the whole one is."""
    corners = np.concatenate(lines)
    sides = [
        _grown(low, high, side)
        for low, high, side in zip(
            corners.min(axis=0)[::-1], corners.max(axis=0)[::-1], picture.shape[:2], strict=True
        )
    ]
    rows, columns = sides
    read = [
        line.moved(columns.start, rows.start)
        for line in reading.read_lines(np.ascontiguousarray(picture[rows, columns]))
    ]
    return ReadPage(read, reading.read_otherwise(read, plain), [], scale)


def _grown(low: float, high: float, side: int) -> slice:
    """What holds an interval of a side, with a margin: smaller pictures are enlarged to be read."""
    more = max(_AROUND, (_READABLE - (high - low)) / 2)
    start = int(max(0, min(low - more, side - _READABLE)))
    return slice(start, min(side, max(math.ceil(high + more), start + _READABLE)))


def _unread(
    words: Sequence[reading.Word],
    right: NDArray[np.bool_] | None,
    lines: Sequence[Corners],
    shape: tuple[int, ...],
) -> Iterator[NDArray[np.floating]]:
    """The corners of words that are not called right, and of lines without words, once each."""
    of_lines, done = np.zeros(shape[:2], np.bool_), np.zeros(shape[:2], np.bool_)
    for corners in lines:
        place, inside = box_of(corners, of_lines.shape)
        of_lines[place] |= inside
    if right is not None:
        for word in words:
            place, inside = box_of(word.corners, done.shape)
            if 2 * np.count_nonzero(inside & of_lines[place]) <= np.count_nonzero(inside):
                continue  # the reader sees it in a part alone
            done[place] |= inside
            if not right[place][inside].all():
                yield word.corners
    for corners in lines:
        place, inside = box_of(corners, done.shape)
        if 2 * np.count_nonzero(inside & ~done[place]) > np.count_nonzero(inside):
            done[place] |= inside
            yield corners


def not_read(input_class: str | None) -> str | None:
    """The warning about an upload that looks like text, where no reader is installed."""
    if input_class is None or not input_class.endswith(_LOOKS_LIKE_TEXT):
        return None
    return (
        "This upload looks like text, which was not looked for: the mask is about colours, and "
        "says nothing of what is written (pip install '.[text]')."
    )


def why_look(left_out: list[LeftOut]) -> str | None:
    """Why a picture with these things needs a look, whatever its colours; None: it has none."""
    kinds = {place.kind for place in left_out}
    if not kinds:
        return None
    kinds_in_words = " and ".join(
        words for kind, words in (("face", "a face"), ("text", "text")) if kind in kinds
    )
    return f"It shows {kinds_in_words}, of which colours say nothing."
