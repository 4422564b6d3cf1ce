"""The text reader: labels words that a result gets wrong, without people.

Where a word that it reads well in the truth reads differently in the same place of the prediction,
it marks the box of the word. It never marks what it cannot read in the truth (small print, script,
most that is askew) or words that only the prediction has, and it may misread what people can read:
a promise on its labels is about *its* words.

Words are compared by letters and digits, in lower case and NFKC, after aligning both readings of a
line; a word is wrong if a letter is changed, lost or has a new neighbour.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from importlib import metadata
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.lab import check_pair

VERSION = "3.10.0"
"""Of the reader and its models, since another one reads differently; the extra `text` pins it."""

_LEAST_SIDE = 4  # of a line, in pixels, to take out its perspective


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """The reader and its thresholds, as a calibration records them.

    name, version: of the reader; another version measures nothing.
    legible: the reader's confidence, 0 … 1, from which on a word of the truth counts as read.
    margin: how far the box of a word grows on each side, as a share of its shorter side.
    """

    name: Literal["rapidocr"] = "rapidocr"
    version: str = VERSION
    legible: float = 0.9
    margin: float = 0.25

    def __post_init__(self) -> None:
        if self.name != "rapidocr":
            raise ValueError(f"no text reader {self.name!r}")
        if not (0 < self.legible < 1 and 0 <= self.margin <= 1):
            raise ValueError("the reader's legible must be in (0, 1), its margin in [0, 1]")

    @property
    def title(self) -> str:
        """How answers and reports call it."""
        return f"text reader {self.name} version {self.version}"

    @property
    def missing(self) -> str | None:
        """What to install before anything can be measured, if anything."""
        try:
            installed = metadata.version(self.name)
        except metadata.PackageNotFoundError:
            installed = "none"
        if installed == self.version:
            return None
        return f"{self.name} {self.version} (here is {installed}): the extra “text” brings it"


class Word(NamedTuple):
    """A word of the truth.

    letters: what is compared; may be empty.
    confidence: the reader's, 0 … 1.
    box: its corners (x, y) in pixels, [4, 2].
    """

    letters: str
    confidence: float
    box: NDArray[np.float64]


def label(
    truth_rgb: NDArray[np.uint8],
    prediction_rgb: NDArray[np.uint8],
    settings: ReaderSettings | None = None,
) -> NDArray[np.bool_]:
    """Where words read differently, bool [H, W], of two uint8 images (`check_pair`)."""
    settings = settings or ReaderSettings()
    check_pair(truth_rgb, prediction_rgb)
    marks = np.zeros(truth_rgb.shape[:2], np.bool_)
    for words, reading in lines(truth_rgb, prediction_rgb):
        wrong = misread([word.letters for word in words], reading)
        for word, is_wrong in zip(words, wrong, strict=True):
            if is_wrong and word.confidence >= settings.legible:
                marks[box_of(word, settings.margin)] = True
    return marks


def misread(words: Sequence[str], reading: str) -> list[bool]:
    """Which words of a line (in `letters_of`) another reading of the line gets wrong."""
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
    """The letters and digits of a text that are compared."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def lines(
    truth_rgb: NDArray[np.uint8], prediction_rgb: NDArray[np.uint8]
) -> Iterator[tuple[list[Word], str]]:
    """The words of each line of the truth, and the letters in its place in the prediction."""
    engine = _engine()
    truth, prediction = (
        np.ascontiguousarray(one[..., ::-1]) for one in (truth_rgb, prediction_rgb)
    )
    found = engine(truth).boxes
    boxes = [] if found is None else [box for box in found if _least_side(box) >= _LEAST_SIDE]
    if not boxes:
        return
    # Both are read in batches alike, so that equal pixels read equally.
    crops = engine.crop_text_regions(truth, boxes)
    read = engine.recognize_txt(crops)
    made = engine.recognize_txt(engine.crop_text_regions(prediction, boxes))
    for crop, box, text, found_words, reading in zip(
        crops, boxes, read.txts, read.word_results, made.txts, strict=True
    ):
        if text.strip():
            line = type(read)(txts=(text,), word_results=(found_words,))
            located = engine.cal_rec_boxes([crop], [box], line).word_results[0]
            words = [Word(letters_of(word), score, np.array(at)) for word, score, at in located]
            yield words, letters_of(reading)


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


def _least_side(box: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(np.diff(box, axis=0, append=box[:1]), axis=1).min())


def box_of(word: Word, margin: float) -> tuple[slice, slice]:
    """The rows and columns around a word, with its margin."""
    low, high = word.box.min(axis=0), word.box.max(axis=0)
    more = margin * (high - low).min()
    (left, top), (right, bottom) = np.floor(low - more).clip(0), np.ceil(high + more) + 1
    return np.s_[int(top) : int(bottom), int(left) : int(right)]
