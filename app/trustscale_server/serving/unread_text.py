"""Text of a picture that no calibration for words calls right, so that masks leave it out.

It needs the extra `text`. Lines are found first, in Ŷ and in the enlarged upload, which is far
quicker than to read; only what is around them is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibration.subset import Subset
from trustscale_server.pixels.boxes import box_of
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.measure import measured_again
from trustscale_server.sampling.sigma.words import ReadPage
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.serving.left_out import LeftOut, listed_corners
from trustscale_server.things import reading
from trustscale_server.things.lines import Corners, FindLines
from trustscale_server.upscalers.base import Source

_READABLE: Final = 736  # pixels on a side, from which on the reader enlarges nothing

_Judged = tuple[NDArray[np.floating], bool]  # the corners of a word, and whether it is called right


@dataclass(frozen=True, slots=True)
class WordsCalibration:
    """A calibration for words that may call some of an upload right, at its own α.

    subset: its pairs for the upload. is_covered: whether it has such uploads.
    """

    subset: Subset
    is_covered: bool

    @property
    def alpha(self) -> float:
        """Its own α."""
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


def text_of(
    source: Source,
    prediction: Pixels,
    pipeline: MeasurementSpec,
    find: FindLines,
    words: WordsCalibration | None = None,
) -> list[LeftOut]:
    """Return the text of Ŷ or of the enlarged upload that is not called right.

    source: X. prediction: Ŷ, [H, W, 3]. words: None: there is none, so no text is called right.
    """
    picture = to_8_bit(prediction)
    plain = to_8_bit(Enlarged(source.rgb, pipeline.scale)[: len(picture)])
    in_picture, in_plain = find([picture, plain])
    judged: list[_Judged] = []
    if in_picture and words is not None and words.judges(pipeline):
        page = _read_near(in_picture, picture, plain, pipeline.scale)
        judged = _judged(page, prediction, source, words)
    why = "Text. No calibration for words calls it right."
    return [
        LeftOut(kind="text", box=listed_corners(corners.tolist()), why=why)
        for corners in _unread(judged, [*in_picture, *in_plain], picture.shape)
    ]


def _read_near(
    lines: Sequence[Corners], picture: NDArray[np.uint8], plain: NDArray[np.uint8], scale: int
) -> ReadPage:
    """What is read of Ŷ around these lines, in a part of it that is a picture of its own."""
    corners = np.concatenate(lines)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    height, width, _ = picture.shape
    rows, columns = _grown(top, bottom, height), _grown(left, right, width)
    read = [
        line.moved(columns.start, rows.start)
        for line in reading.read_lines(np.ascontiguousarray(picture[rows, columns]))
    ]
    return ReadPage(read, reading.read_otherwise(read, plain), [], scale)


def _grown(low: float, high: float, side: int) -> slice:
    """An interval of a side with a margin, so wide that the reader does not enlarge it."""
    more = max(32, (_READABLE - (high - low)) / 2)
    start = int(max(0, min(low - more, side - _READABLE)))
    return slice(start, min(side, max(math.ceil(high + more), start + _READABLE)))


def _judged(
    page: ReadPage, prediction: Pixels, source: Source, words: WordsCalibration
) -> list[_Judged]:
    """The words of a page, each called right where its whole box is in the mask for words."""
    if not page.words:
        return []
    subset = words.subset
    sigma = measured_again([prediction], source, subset.pipeline, page=page).sigma
    right = subset.curve.mask(sigma, words.alpha)
    judged: list[_Judged] = []
    for word in page.words:
        place, inside = box_of(word.corners, right.shape)
        judged.append((word.corners, bool(right[place][inside].all())))
    return judged


def _unread(
    judged: Sequence[_Judged], lines: Sequence[Corners], shape: tuple[int, ...]
) -> Iterator[NDArray[np.floating]]:
    """The corners of words that are not called right, and of lines without words, once each."""
    of_lines, done = np.zeros(shape[:2], np.bool_), np.zeros(shape[:2], np.bool_)
    for corners in lines:
        place, inside = box_of(corners, of_lines.shape)
        of_lines[place] |= inside
    for corners, is_right in judged:
        place, inside = box_of(corners, done.shape)
        if 2 * np.count_nonzero(inside & of_lines[place]) <= np.count_nonzero(inside):
            continue  # at most half of it lies in lines: the reader sees it in that part alone
        done[place] |= inside
        if not is_right:
            yield corners
    for corners in lines:
        place, inside = box_of(corners, done.shape)
        if 2 * np.count_nonzero(inside & ~done[place]) > np.count_nonzero(inside):
            done[place] |= inside
            yield corners
