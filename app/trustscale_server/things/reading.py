"""The text reader: what it reads in a picture, and whether another picture reads alike there.

Words are compared by letters, digits and what stands before a digit (a sign, a decimal point), in
lower case and NFKC, after aligning both readings of a line; a word reads otherwise if one of these
is changed, lost or has a new neighbour. 8.5 and 85 are different numbers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import cache
from importlib import metadata
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.pixels.boxes import painted
from trustscale_server.pixels.lab import Pixels, to_8_bit

_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
_BEFORE_DIGITS = frozenset("-+±.,:/'’·")


def missing(reader: ReaderSettings | None) -> str | None:
    """Return what to install before this reader reads, if anything; None needs none."""
    if reader is None:
        return None
    try:
        installed = metadata.version(reader.name)
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed == reader.version:
        return None
    return f"{reader.name} {reader.version} (here is {installed}): the extra “text” brings it"


class Word(NamedTuple):
    """A word as it was read.

    text: with case, accents and punctuation.
    confidence: the least of its characters', 0 … 1.
    corners: of its box, (x, y) in pixels, clockwise from where it begins, float64 [4, 2].
    """

    text: str
    confidence: float
    corners: NDArray[np.float64]


class Line(NamedTuple):
    """Where text was found, float32 [4, 2] as `Word.corners`, and its words, if any were read."""

    corners: NDArray[np.float32]
    words: tuple[Word, ...]

    def moved(self, right: float, down: float) -> Line:
        """Return the line in a larger picture: its own lies `right` and `down` pixels inside."""
        offset = np.array([right, down], np.float32)
        words = (word._replace(corners=word.corners + offset) for word in self.words)
        return Line(self.corners + offset, tuple(words))


def read_lines(picture: NDArray[np.uint8]) -> list[Line]:
    """Return the lines of text in a uint8 [H, W, 3] picture."""
    engine, pixels = _engine(), _bgr(picture)
    boxes = engine(pixels).boxes
    # A line of fewer than four pixels has no perspective to be taken out.
    boxes = [] if boxes is None else [box for box in boxes if _least_side(box) >= 4]
    if not boxes:
        return []
    recognised = engine.recognize_txt(engine.crop_text_regions(pixels, boxes))
    return [
        Line(box, tuple(_words(box, text, about)))
        for box, text, about in zip(boxes, recognised.txts, recognised.word_results, strict=True)
    ]


def read_otherwise(lines: Sequence[Line], picture: NDArray[np.uint8]) -> list[bool]:
    """Return which words of all lines another uint8 picture of the size shows otherwise."""
    if not lines:
        return []
    # All lines again, in batches alike, so that equal pixels read equally.
    engine = _engine()
    crops = engine.crop_text_regions(_bgr(picture), [line.corners for line in lines])
    readings = engine.recognize_txt(crops).txts
    return [
        is_other
        for line, reading in zip(lines, readings, strict=True)
        for is_other in misread_words(
            [compared_of(word.text) for word in line.words], compared_of(reading)
        )
    ]


def misread(truth: Pixels, prediction: Pixels) -> NDArray[np.float32]:
    """Return 1 inside words of the prediction that the truth shows otherwise, else 0.

    The label of the metric `text`, [H, W], of two pictures [H, W, 3] of 8 or 16 bits. What a
    calibration counts is the share of such words instead (`conformal/words.py`).
    """
    lines = read_lines(to_8_bit(prediction))
    wrong = read_otherwise(lines, to_8_bit(truth))
    words = (word for line in lines for word in line.words)
    boxes = [(word.corners, float(is_wrong)) for word, is_wrong in zip(words, wrong, strict=True)]
    return painted(boxes, truth.shape[:2], 0.0)


def misread_words(words: Sequence[str], reading: str) -> list[bool]:
    """Return which words of a line (in `compared_of`) another reading of the line gets wrong."""
    ends = [0, *accumulate(len(word) for word in words)]
    aligned = SequenceMatcher(None, "".join(words), reading, autojunk=False).get_opcodes()
    # An insertion touches the letters on both sides.
    changed = [
        (start - (start == end), end + (start == end))
        for kind, start, end, *_ in aligned
        if kind != "equal"
    ]
    return [
        start < end and any(a < end and b > start for a, b in changed)
        for start, end in pairwise(ends)
    ]


def letters_of(text: str) -> str:
    """Return the letters and digits of a text."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def compared_of(text: str) -> str:
    """Return what is compared of a text: letters, digits, and signs and points of numbers."""
    normalised = unicodedata.normalize("NFKC", text).casefold().translate(_DASHES)
    return "".join(
        character
        for character, following in zip(normalised, f"{normalised} "[1:], strict=True)
        if character.isalnum() or (character in _BEFORE_DIGITS and following.isdigit())
    )


def _words(box: NDArray[np.float32], text: str, about: Any) -> Iterator[Word]:
    """The words of a line with letters; about: the reader's columns and confidences."""
    confidences = iter(
        [
            confidence
            for character, confidence in zip(text, about.confs, strict=False)
            if not character.isspace()
        ]
    )
    corners = np.asarray(box, np.float64)
    left, top = (np.linalg.norm(corners[other] - corners[0]) for other in (3, 1))
    if left >= top * 1.5:  # the reader turned the line, which runs downwards
        corners = np.roll(corners, -1, axis=0)
    top_left, top_right, bottom_right, bottom_left = corners
    columns = about.line_txt_len
    for characters, places in zip(about.words, about.word_cols, strict=True):
        least = min(next(confidences) for _ in characters)
        half = (places[-1] - places[0]) / max(1, len(places) - 1) / 2 or columns / len(text) / 2
        ends = np.clip([(places[0] + 0.5 - half), (places[-1] + 0.5 + half)], 0, columns) / columns
        (a, b), (d, c) = (
            [begin + share * (end - begin) for share in ends]
            for begin, end in ((top_left, top_right), (bottom_left, bottom_right))
        )
        if letters_of(word := "".join(characters)):
            yield Word(word, least, np.array([a, b, c, d]))


@cache
def _engine() -> Any:
    # Slow to import, and only in the extra.
    from rapidocr import RapidOCR  # noqa: PLC0415

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.use_rec": False,
            "Global.return_word_box": True,
            # Equal sums on any number of cores.
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
    )


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[..., ::-1])


def _least_side(box: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(np.diff(box, axis=0, append=box[:1]), axis=1).min())
