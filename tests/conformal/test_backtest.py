"""The backtest: exactly what splitting by hand gives, and what theory promises of it."""

from dataclasses import astuple
from fractions import Fraction

import numpy as np
import pytest

from trustscale_server.conformal import LossCurve
from trustscale_server.conformal.backtest import Pairs, backtest, sigma_quantiles

from . import oracle

BOUND = 2.0
ALPHAS = (0.05, 0.2, 0.5, 1.0)
LEVELS = np.linspace(0, 1, 101)


def images(count, seed=0, side=12):
    random = np.random.default_rng(seed)
    sigmas = random.random((count, side, side)).astype(np.float32)
    errors = (sigmas * random.random((count, side, side)) * BOUND).astype(np.float32)
    return sigmas, errors


@pytest.mark.parametrize("size", [1, 2, 3, 101, 1000, 70_001])
def test_quantiles_have_the_bits_of_numpys(size):
    """Calibrations hold numpy's, so σ of the same pairs must give the same."""
    sigma = np.exp(np.random.default_rng(size).normal(0, 3, size)).astype(np.float32)
    expected = np.quantile(sigma, LEVELS).astype(np.float32)
    np.testing.assert_array_equal(sigma_quantiles(sigma, LEVELS), expected)


def reduced(sigmas, errors):
    loss_curves = [LossCurve.from_maps(s, e) for s, e in zip(sigmas, errors, strict=True)]
    quantiles = np.quantile(sigmas, LEVELS, axis=(1, 2)).T.astype(np.float32)
    return Pairs(
        [[one] for one in loss_curves],
        list(range(len(loss_curves))),
        [Fraction(1)] * len(loss_curves),
        quantiles,
        lambda t: np.array([one.losses_below(t) for one in loss_curves], float),
    )


def test_against_splitting_by_hand():
    """Every split, threshold, loss and area of the pixels themselves gives the same means."""
    sigmas, errors = images(9)
    splits = 5
    rows = backtest(reduced(sigmas, errors), BOUND, ALPHAS, splits=splits, seed=3)
    random = np.random.Generator(np.random.PCG64(3))
    losses = np.empty((splits, len(ALPHAS)))
    for split in range(splits):
        order = random.permutation(9)
        fitted, served = order[:4], order[4:]
        # Quantiles are evenly spaced, so 95 % of the area is below that of all of them.
        shares = np.quantile(sigmas[fitted], LEVELS[1:], axis=(1, 2)).astype(np.float32)
        end = np.sort(shares, axis=None)[int(0.95 * shares.size) - 1]
        for k, alpha in enumerate(ALPHAS):
            t = oracle.threshold([(sigmas[i], errors[i]) for i in fitted], BOUND, alpha)
            t = min(t, np.nextafter(end, np.float32(1)))
            inside = [errors[i][sigmas[i] < t].max(initial=0) for i in served]
            losses[split, k] = np.mean(inside)
    for k, row in enumerate(rows):
        assert row.alpha == ALPHAS[k]
        assert row.risk == pytest.approx(losses[:, k].mean(), abs=1e-7)
        assert row.risk_low == pytest.approx(np.quantile(losses[:, k], 0.05), abs=1e-7)
        assert row.risk_high == pytest.approx(np.quantile(losses[:, k], 0.95), abs=1e-7)


def test_the_ends():
    """Where half the images cannot support α nothing is trusted; at α = B all but 5 % is."""
    below, above = backtest(reduced(*images(8)), BOUND, [0.01, BOUND], splits=3)
    assert astuple(below)[1:] == (0, 0, 0, 0, 0, 0, 0)
    assert (above.trusted_low, above.trusted) == (pytest.approx(0.95, abs=0.02),) * 2


def test_it_can_be_ended():
    """What is called before each split ends it there."""
    splits = iter(range(3))
    with pytest.raises(StopIteration):
        backtest(reduced(*images(8)), BOUND, ALPHAS, before_split=lambda: next(splits))
    assert next(splits, None) is None
