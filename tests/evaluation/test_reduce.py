"""One image's masks against counting them one by one."""

from __future__ import annotations

import numpy as np
import pytest

from app.conformal import Staircase, fidelity
from app.conformal.fidelity import Settings
from app.evaluation.reduce import SEMANTIC, ErrorMaps, losses_at
from tests.factories import photo

THRESHOLDS = np.array([-np.inf, 0.0, 0.25, 0.5, 0.5000001, 0.9, np.inf])


@pytest.fixture
def image():
    """Maps with ties in σ at 0, 0.25, 0.5, …."""
    truth, random = photo(1), np.random.default_rng(0)
    noise = random.integers(-20, 20, truth.shape)
    prediction = np.clip(truth.astype(int) + noise, 0, 255).astype(np.uint8)
    sigma = (random.integers(0, 5, truth.shape[:2]) / 4).astype(np.float32)
    return sigma, ErrorMaps(truth, prediction)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(blur=2.0, bound=3.0),
        Settings(metric="pointwise", bound=0.05),
        Settings(metric="neighborhood_difference"),
        SEMANTIC,
    ],
)
def test_errors_are_those_of_the_core(image, settings):
    """A shared map is the one that `fidelity.error` makes."""
    _, maps = image
    maps.error(Settings())
    expected = fidelity.error(maps.truth, maps.prediction, settings)
    assert np.array_equal(maps.error(settings), expected)


@pytest.mark.parametrize(("side", "method"), [("left", "loss_below"), ("right", "loss")])
def test_losses_at(image, side, method):
    """Both sides of a threshold are those of the staircase."""
    sigma, maps = image
    stairs = [Staircase.from_maps(sigma, maps.error(Settings(blur=b))) for b in (0, 1)]
    expected = [[getattr(s, method)(float(t)) for t in THRESHOLDS] for s in stairs]
    assert losses_at(stairs, THRESHOLDS, side) == pytest.approx(np.array(expected))
