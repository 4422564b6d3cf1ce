"""One image's masks against counting them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from app.conformal import Staircase, fidelity
from app.conformal.fidelity import Settings
from app.conformal.lab import normalised_lab
from app.evaluation.reduce import SEMANTIC, ErrorMaps, inside, losses_at, within
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


def test_against_brute_force(image):
    """Area, PSNR and losses of every mask are those of the masked pixels."""
    sigma, maps = image
    errors = (maps.error(Settings()), maps.error(SEMANTIC))
    stairs = tuple(Staircase.from_maps(sigma, error) for error in errors)
    everything = inside(sigma, maps, THRESHOLDS)
    found = within(everything, np.arange(len(THRESHOLDS)), stairs, THRESHOLDS)
    for place, threshold in enumerate(THRESHOLDS):
        mask = sigma < threshold
        assert found.area[place] == mask.mean()
        if not mask.any():
            assert (found.error[place], found.semantic[place]) == (0, 0)
            assert np.isnan([found.psnr[place], found.psnr_lab[place]]).all()
            continue
        assert found.error[place] == errors[0][mask].max()
        assert found.semantic[place] == errors[1][mask].max()
        assert found.psnr[place] == pytest.approx(
            peak_signal_noise_ratio(maps.truth[mask], maps.prediction[mask], data_range=255)
        )
        lab = [normalised_lab(rgb)[:, mask] for rgb in (maps.truth, maps.prediction)]
        assert found.psnr_lab[place] == pytest.approx(
            peak_signal_noise_ratio(*lab, data_range=1), rel=1e-5
        )


def test_a_perfect_mask(image):
    """Exact pixels have an infinite PSNR, which later means leave out."""
    sigma, maps = image
    perfect = ErrorMaps(maps.truth, maps.truth)
    assert np.isinf(inside(sigma, perfect, np.array([np.inf])).psnr[0])


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
