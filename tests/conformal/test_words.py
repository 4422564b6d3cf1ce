"""Words that are called right: the share of wrong ones, its curve, its promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustscale_server.calibration.guarantee_kinds import Expectation, Probability
from trustscale_server.conformal import CalibrationSet, words
from trustscale_server.pixels.boxes import box_of, painted

SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=12)


def shares(scored: list[tuple[float, bool]], t: float) -> float:
    """FDP(t) as it is written down."""
    inside = [wrong for score, wrong in scored if score <= t]
    return sum(inside) / max(1, len(inside))


@given(SCORED)
def test_the_loss_is_the_running_maximum_of_the_share_of_wrong_words(
    scored: list[tuple[float, bool]],
) -> None:
    """At every threshold L is the largest share of wrong words of any smaller mask."""
    curve = words.loss_curve([score for score, _ in scored], [wrong for _, wrong in scored])
    for t in np.arange(-1, 8, 0.5):
        largest = max(shares(scored, s) for s in np.arange(-1, t + 0.1, 0.5))
        assert curve.losses(t) == pytest.approx(largest)


def pictures(random: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores, and which words are wrong, of pictures that differ in size and difficulty."""
    drawn = []
    for _ in range(count):
        hard = random.beta(0.6, 1.5)
        wrong = random.random(random.integers(0, 30)) < hard
        drawn.append(((random.normal(1.2 * wrong + hard, 1)).astype(np.float32), wrong))
    return drawn


@pytest.mark.parametrize("kind", ["expectation", "probability"])
@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_of_the_words_called_right_at_most_alpha_are_wrong_on_average(
    kind: str, alpha: float
) -> None:
    """A simulation: neither promise is broken by more than chance, and neither wastes it all."""
    random, losses = np.random.default_rng(7), []
    promise = Expectation() if kind == "expectation" else Probability(tolerance=words.ANY)
    for _ in range(150):
        *known, (scores, wrong) = pictures(random, 30)
        curve = promise.curve(CalibrationSet([words.loss_curve(*one) for one in known], 1.0))
        trusted = scores < curve.threshold(alpha)
        share = words.share_wrong(trusted, wrong)
        losses.append(share if kind == "expectation" else float(share > 0))
    error = np.std(losses) / np.sqrt(len(losses))
    assert alpha / 4 < np.mean(losses) < alpha + 2 * error


def test_judgements_without_words_are_refused() -> None:
    """A score for each word, and a word for each score."""
    with pytest.raises(ValueError, match="1 scores, but 0 judgements"):
        words.loss_curve([1.0], [])


def test_a_box_holds_the_pixels_between_its_corners() -> None:
    """Turned either way round, and cut at the border of the picture."""
    corners = np.array([[2, 1], [6, 1], [6, 3], [2, 3]], float)
    for box in (corners, corners[::-1]):
        (rows, columns), inside = box_of(box, (8, 8))
        assert (rows, columns) == (slice(1, 4), slice(2, 7))
        assert inside.all()
    turned = np.array([[4, 0], [8, 4], [4, 8], [0, 4]], float)
    place, inside = box_of(turned, (9, 9))
    y, x = np.mgrid[:9, :9]
    assert np.array_equal(inside, (abs(x - 4) + abs(y - 4) <= 4)[place])
    (rows, columns), inside = box_of(corners + 50, (8, 8))
    assert (rows, columns) == (slice(7, 8), slice(7, 8))
    assert inside.all()


def test_the_score_of_a_word_is_the_largest_in_its_box() -> None:
    """A word is in the mask if all of its box is; where boxes overlap the larger value counts."""
    one, other = (np.array([[x, 1], [x + 3, 1], [x + 3, 4], [x, 4]], float) for x in (1, 3))
    sigma = painted([(one, 0.5), (other, 0.25)], (6, 9), 0.125)
    assert sigma[0, 0] == 0.125
    assert sigma[2, 6] == 0.25
    assert words.scores_of([one, other], sigma) == [0.5, 0.5]
