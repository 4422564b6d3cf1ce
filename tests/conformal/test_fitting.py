"""Fitting σ: it finds what tells the error, and gives an artefact that makes σ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from app.conformal import RiskCurve, Staircase, fitting, terms
from app.conformal.fitted import Fit

SIDE = 64


def photograph(seed):
    """Maps, and an error that grows with the residual and has nothing to do with the variance."""
    random = np.random.default_rng(seed)

    def field(deviation):
        values = ndimage.gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), deviation)
        return values / values.std()

    truth = field(6)
    residual = np.exp(2 * truth + 0.2 * field(2)) * 1e-3
    variance = np.exp(2 * field(6)) * 1e-3
    mean = np.clip(0.5 + 0.1 * np.stack([field(2) for _ in range(3)]), 0, 1)
    error = np.exp(truth + 0.1 * field(4)) * 0.02
    maps = terms.Maps(*(x.astype(np.float32) for x in (mean, variance, residual)))
    return maps, np.minimum(error, 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def made():
    """A fit on 16 photographs."""
    return fitting.fit([fitting.fit_sample(*photograph(seed)) for seed in range(16)], terms=6)


def area(sigma_of, alpha=0.06, of=photograph):
    """Mean trusted area on other photographs, calibrated on yet others."""
    found = [of(seed) for seed in range(100, 140)]
    sigmas = [sigma_of(maps) for maps, _ in found]
    stairs = [Staircase.from_maps(s, error) for s, (_, error) in zip(sigmas, found, strict=True)]
    threshold = RiskCurve.from_staircases(stairs[:28], 0.5).threshold(alpha)
    return np.mean([(sigma < threshold).mean() for sigma in sigmas[28:]])


def test_it_finds_what_tells_the_error(made):
    """On photographs that it never saw it trusts more than what misleads, nearly all it can."""
    fitted = area(made.sigma)
    misled = area(Fit(weights=(("variance@1", 0.5),)).sigma)
    best = area(Fit(weights=(("residual@1", 0.5),)).sigma)
    assert fitted > misled + 0.1
    assert fitted > best - 0.05


def test_units_find_what_no_sum_can():
    """Where the error rises on both sides of a middle, a fit with units trusts far more."""

    def risen(seed):
        maps, _ = photograph(seed)
        log_residual = np.log(maps.residual / 1e-3) / 2
        error = 0.02 * np.exp(0.5 * np.abs(log_residual))
        return maps._replace(variance=None), error.astype(np.float32)

    photos = [fitting.fit_sample(*risen(seed)) for seed in range(12)]
    bent, straight = (
        area(fitting.fit(photos, terms=6, units=units).sigma, of=risen) for units in (4, 0)
    )
    assert bent > straight + 0.3


def test_it_tells_the_shape_of_its_risk(made):
    """The risk curve of other photographs rises by about as much between two of its knots."""
    other = [photograph(seed) for seed in range(100, 140)]
    stairs = [Staircase.from_maps(made.sigma(maps), error) for maps, error in other]
    (low, risk_low), (high, risk_high) = made.shape[-6], made.shape[-2]
    means = [np.mean([one.loss(level) for one in stairs]) for level in (low, high)]
    assert means[1] / means[0] == pytest.approx(risk_high / risk_low, rel=0.4)


def test_it_has_as_many_terms_as_asked_for(made):
    """The terms that matter are kept, and the residual is among them."""
    assert len(made.weights) == 6
    assert any(terms.energy_of(term) == "residual" for term, _ in made.weights)


def test_sigma_has_the_scale_of_the_error(made):
    """The offset puts σ about where D is, for people who compare them."""
    maps, error = photograph(200)
    assert 0.3 < np.median(made.sigma(maps)) / np.median(error) < 3


@pytest.mark.parametrize("shape", [(5, 9), (64, 30), (200, 300)])
def test_a_photograph_is_counted_whole(shape):
    """Whatever its size, the cells that are seen stand for all of it, the worst among them."""
    maps, error = photograph(1)
    grown = [np.resize(plane, (*plane.shape[:-2], *shape)) for plane in maps[:3]]
    error = np.resize(error, shape)
    cells = fitting.fit_sample(terms.Maps(*grown), error)
    assert cells.share.sum() == pytest.approx(1, abs=1e-4)
    assert cells.error.max() == error.max()
    assert np.isfinite(cells.terms).all()


def test_photographs_of_different_sizes_are_fitted_together():
    """The smallest one sets how many cells of each are seen."""
    small, large = photograph(1), photograph(2)
    cut = terms.Maps(*(plane[..., :20, :24] for plane in small[0][:3]))
    fit = fitting.fit(
        [fitting.fit_sample(cut, small[1][:20, :24]), fitting.fit_sample(*large)], terms=3
    )
    assert len(fit.weights) == 3


def test_a_photograph_without_error_does_no_harm():
    """A perfect prediction has no worst pixel, and the fit stays finite."""
    maps, error = photograph(1)
    photos = [fitting.fit_sample(maps, np.zeros_like(error)), fitting.fit_sample(*photograph(2))]
    assert all(np.isfinite(weight) for _, weight in fitting.fit(photos, terms=3).weights)


def test_what_cannot_be_fitted_is_refused():
    """No photographs, photographs with other terms, or one of a single cell."""
    maps, error = photograph(1)
    with pytest.raises(ValueError, match="no photographs"):
        fitting.fit([])
    other = fitting.fit_sample(maps._replace(variance=None), error)
    with pytest.raises(ValueError, match="different terms"):
        fitting.fit([fitting.fit_sample(maps, error), other])
    dot = terms.Maps(*(plane[..., :4, :4] for plane in maps[:3]))
    with pytest.raises(ValueError, match="too small"):
        fitting.fit_sample(dot, error[:4, :4])
