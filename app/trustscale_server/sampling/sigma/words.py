"""σ of words: how likely a word that a reader reads in Ŷ is to be read otherwise in the truth."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.boxes import box_of, painted
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.things import reading

TERMS: Final = ("doubt", "otherwise", "smallness", "length", "departure")
"""What the score of a word is made of: the logit of 1 − the reader's confidence; whether E reads
otherwise; −log of its height in pixels of X; log of the number of its letters; log of the mean
‖E_M[μ] − E‖₁ in its box."""

UNREADABLE, NO_TEXT = 1e6, 1e-6
_MAX_LOG = 12.0  # of the score of a word, which lies between the two
_NEVER = 1e-3  # no reader is surer than this


@dataclass(frozen=True, slots=True)
class ReadingFit:
    """Weights of the terms of words, and where they come from.

    weights: (term, w_j) pairs, one for each of `TERMS` in their order.
    offset: w₀, which makes σ the odds that the word is wrong; masks do not depend on it.
    """

    weights: tuple[tuple[str, float], ...]
    offset: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple((str(t), float(w)) for t, w in self.weights))
        if tuple(term for term, _ in self.weights) != TERMS:
            raise ValueError(f"the terms of words are {', '.join(TERMS)}")
        if not all(math.isfinite(number) for number in (self.offset, *dict(self.weights).values())):
            raise ValueError("weights must be numbers")

    def scores(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score words by their terms, float64 [N, T]; returns [N] > 0."""
        log = terms @ np.array([weight for _, weight in self.weights]) + self.offset
        return np.asarray(np.exp(np.clip(log, -_MAX_LOG, _MAX_LOG)))


@cache
def shipped_reading() -> ReadingFit:
    """Return the weights that come with this program."""
    data = resources.files(__package__).joinpath("fits", "reading.json").read_text("utf-8")
    return ReadingFit(**json.loads(data))


@dataclass(frozen=True, slots=True)
class ReadPage:
    """What was read for one picture.

    made: the lines of Ŷ. otherwise: whether E shows each of their words otherwise.
    plain: the lines of E. scale: of Ŷ over X.
    """

    made: Sequence[reading.Line]
    otherwise: Sequence[bool]
    plain: Sequence[reading.Line]
    scale: int

    @classmethod
    def from_pictures(cls, prediction: Pixels, plain: Pixels, scale: int) -> ReadPage:
        """Read Ŷ and E, [H, W, 3] of 8 or 16 bits; the reader sees the upper 8."""
        rgb, plain_rgb = to_8_bit(prediction), to_8_bit(plain)
        lines = reading.read_lines(rgb)
        others = reading.read_otherwise(lines, plain_rgb)
        return cls(lines, others, reading.read_lines(plain_rgb), scale)

    @property
    def words(self) -> list[reading.Word]:
        """The words of Ŷ."""
        return [word for line in self.made for word in line.words]


def terms(page: ReadPage, departed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the terms of all words, float64 [N, T].

    departed: ‖E_M[μ] − E‖₁ in normalised Lab, float32 [H, W].
    """
    rows = []
    for word, is_other in zip(page.words, page.otherwise, strict=True):
        top, bottom = word.corners[:2], word.corners[:1:-1]
        height = float(np.linalg.norm(bottom - top, axis=1).mean()) / page.scale
        place, inside = box_of(word.corners, departed.shape)
        departure = float(departed[place][inside].mean())
        rows.append(
            (
                math.log((1 - word.confidence + _NEVER) / (word.confidence + _NEVER)),
                float(is_other),
                -math.log(max(0.5, height)),
                math.log(len(reading.letters_of(word.text))),
                math.log(departure + 1e-4),
            )
        )
    return np.array(rows, np.float64).reshape(-1, len(TERMS))


def sigma(page: ReadPage, departed: NDArray[np.float32], fit: ReadingFit) -> NDArray[np.float32]:
    """Return σ, float32 [H, W], finite and > 0; `departed` as of `terms`."""
    scored = zip(page.words, fit.scores(terms(page, departed)), strict=True)
    boxes = [(word.corners, float(score)) for word, score in scored]
    height, width = departed.shape
    drawn = painted(boxes, (height, width), NO_TEXT)
    for line in (*page.made, *page.plain):
        place, inside = box_of(line.corners, drawn.shape)
        empty = inside & (drawn[place] == NO_TEXT)
        if 2 * empty.sum() > inside.sum():
            drawn[place][empty] = UNREADABLE
    return drawn
