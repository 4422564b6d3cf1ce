"""What was added, as an answer tells it."""

import numpy as np
import pytest

from tests.sampling.test_added_score import example, looked_at
from trustscale_server.sampling.sigma.added_score import UNCHANGED, Added
from trustscale_server.serving.added import added_detail
from trustscale_server.serving.added_cells import cells_png, read_cells, zones


def test_cells_are_kept():
    """Codes and weights are stored as they are, energies to 5 %."""
    source, _, made = example()
    added = looked_at(source, made)
    read = read_cells(cells_png(added))
    assert np.array_equal(read.codes, added.codes)
    assert np.array_equal(read.weights, added.weights)
    assert read.energy == pytest.approx(np.maximum(added.energy, 2**-31), rel=0.05)


def cells(codes, energy):
    """Cells of these codes and energies in one row."""
    weights = np.zeros((1, len(codes)), np.uint8)
    return Added(np.array([codes], np.uint8), np.array([energy], np.float32), weights)


def test_the_numbers_are_shares_of_what_was_added():
    """Unchanged is a share of the area, held and doubtful are shares of the added energy."""
    added = cells([10, 29, 30, UNCHANGED], [0.1, 0.2, 0.7, 5])
    detail = added_detail(added, 30, 0.3)
    assert detail.unchanged == 0.25
    assert (detail.held, detail.doubtful) == (pytest.approx(0.3), pytest.approx(0.7))
    assert detail.plain == "The model added detail. 30 % of it holds up."
    assert "at most 30 % is invented" in detail.promise
    assert "probability of 0.9" in detail.promise


@pytest.mark.parametrize(
    ("threshold", "why_not", "words"),
    [
        (0, None, "Nothing here can be relied on beyond your own file."),
        (None, None, "is not promised. The calibration was made before"),
        (30, "It is strange", "is not promised. It is strange."),
    ],
)
def test_nothing_is_promised_without_a_foundation(threshold, why_not, words):
    """Without a table, for uploads without a promise, and where nothing holds up."""
    detail = added_detail(cells([10, 40], [0.5, 0.5]), threshold, 0.3, why_not=why_not)
    assert words in detail.plain
    assert detail.promise is None
    assert detail.held == (0 if threshold == 0 else None)


def test_less_than_a_twentieth_is_nothing_to_rely_on():
    """It is promised, but the sentence is that nothing can be relied on."""
    detail = added_detail(cells([10, 40], [0.04, 0.96]), 30, 0.3)
    assert detail.held == pytest.approx(0.04)
    assert "Nothing here can be relied on" in detail.plain


def test_a_picture_to_which_nothing_was_added():
    """There is no share of nothing."""
    detail = added_detail(cells([UNCHANGED], [0]), 30, 0.3)
    assert (detail.unchanged, detail.held, detail.promise) == (1, None, None)


def test_a_reduced_picture_keeps_the_most_doubtful_zone():
    """Of several places that a pixel averages the lowest counts."""
    source, _, made = example()
    added = looked_at(source, made)
    shape = made.shape[:2]
    large, small = zones(added, 30, shape, shape), zones(added, 30, shape, (40, 52))
    assert np.array_equal(small, large.reshape(40, 4, 52, 4).min(axis=(1, 3)))
