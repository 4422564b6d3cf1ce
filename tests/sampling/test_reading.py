"""σ of words: from what a reader says of them, painted into their boxes."""

import numpy as np
import pytest

from trustscale_server.pixels.boxes import box_of
from trustscale_server.sampling.sigma import words
from trustscale_server.sampling.sigma.estimators import Accumulator, IndecisionSettings
from trustscale_server.sampling.sigma.words import NO_TEXT, TERMS, UNREADABLE, ReadPage
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.things.reading import Line, Word

SHAPE = (60, 100)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


SURE = Word("Exit", 0.99, box(10, 10, 40, 22))
UNSURE = Word("4Z", 0.4, box(50, 10, 80, 22))
PAGE = ReadPage(
    made=[
        Line(box(8, 8, 82, 24), (SURE, UNSURE)),
        Line(box(10, 40, 50, 50), ()),
    ],
    otherwise=[False, True],
    plain=[
        Line(box(9, 9, 79, 23), (SURE,)),
        Line(box(70, 40, 95, 50), (SURE,)),
    ],
    scale=4,
)


def sigma(page: ReadPage = PAGE, departed: float = 0.1) -> np.ndarray:
    return words.sigma(page, np.full(SHAPE, departed, np.float32), words.shipped_reading())


def value(drawn: np.ndarray, corners: np.ndarray) -> float:
    place, inside = box_of(corners, drawn.shape)
    (found,) = np.unique(drawn[place][inside])
    return float(found)


def test_each_word_has_its_score_in_its_box():
    """A sure word that both pictures show is below one that they do not; both lie between."""
    drawn = sigma()
    sure, unsure = value(drawn, SURE.corners), value(drawn, UNSURE.corners)
    assert NO_TEXT < sure < unsure < UNREADABLE
    assert drawn[0, 0] == NO_TEXT


def test_text_that_no_word_covers_is_unreadable():
    """A line that was found and not read, and one that only the plain enlargement shows."""
    drawn = sigma()
    for lost in (PAGE.made[1], PAGE.plain[1]):
        assert value(drawn, lost.corners) == UNREADABLE
    # The rest of a line of words is no text that was lost.
    assert drawn[9, 45] == NO_TEXT


def test_terms():
    """The five facts of a word, as they are written down."""
    departed = np.full(SHAPE, 0.5, np.float32)
    found = words.terms(PAGE, departed)
    assert found.shape == (2, len(TERMS))
    expected = [np.log(0.011 / 0.991), 0, -np.log(12 / 4), np.log(4), np.log(0.5001)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert found[1, 1] == 1


def test_weights_are_those_of_the_terms():
    """Others are refused, also of another estimator, and σ without a page."""
    with pytest.raises(ValueError, match="the terms of words"):
        words.ReadingFit((("doubt", 1.0),))
    with pytest.raises(ValueError, match="numbers"):
        words.ReadingFit(tuple((term, np.nan) for term in TERMS))
    with pytest.raises(ValueError, match="belong to the estimator reading"):
        IndecisionSettings(reading=words.shipped_reading())
    accumulator = Accumulator((*SHAPE, 3), IndecisionSettings("reading"))
    accumulator.add(np.zeros((*SHAPE, 3), np.uint8))
    with pytest.raises(ValueError, match="what was read"):
        accumulator.result()
    with pytest.raises(ValueError, match="belongs to the metric text"):
        MeasurementSpec(
            fingerprint="f", scale=4, samples=1, indecision=IndecisionSettings("reading")
        )
