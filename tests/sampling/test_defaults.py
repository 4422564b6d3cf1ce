"""What a calibration uses that says nothing of M or σ."""

from __future__ import annotations

import pytest

from app.calibration.config import CalibrationConfig
from app.conformal.fitted import SHIPPED, shipped
from app.errors import BadRequest
from app.sampling.pipeline import default_samples
from app.upscalers.base import Capabilities
from app.upscalers.embedded import EmbeddedUpscaler
from tests.fakes import FakeUpscaler


@pytest.fixture(scope="module")
def embedded():
    """The upscaler that comes with the program."""
    return EmbeddedUpscaler("span-x4")


def test_the_embedded_one_is_served_with_its_fit(embedded):
    """Two samples and the σ that was fitted to it; with one sample the fit for one."""
    for config, fit in (
        ({}, "span-x4-m2"),
        ({"samples": 2}, SHIPPED[1]),
        ({"samples": 1}, SHIPPED[0]),
    ):
        made = CalibrationConfig(**config).pipeline(embedded)
        assert made.indecision.fit == shipped(fit)
        assert made.samples == shipped(fit).samples


@pytest.mark.parametrize(
    ("config", "estimator"),
    [
        ({"samples": 8}, "smoothed_variance"),
        ({"fidelity": {"metric": "pointwise"}}, "smoothed_variance"),
        ({"fidelity": {"metric": "pointwise"}, "samples": 1}, "residual"),
        ({"indecision": {"estimator": "patch_variance"}}, "patch_variance"),
        ({"indecision": {"size": 3}, "samples": 1}, "residual"),
    ],
)
def test_a_fit_serves_only_what_it_was_made_for(embedded, config, estimator):
    """Another M, D or σ than that of a fit has a plain σ."""
    assert CalibrationConfig(**config).pipeline(embedded).indecision.estimator == estimator


def test_a_remote_picture_costs_at_most_four_calls():
    """Fewer where the upscaler draws fewer."""
    assert default_samples(FakeUpscaler(kind="http")) == 4
    few = FakeUpscaler(kind="http", capabilities=Capabilities(max_samples=1))
    assert default_samples(few) == 1
    assert CalibrationConfig().pipeline(few).indecision.estimator == "residual"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"samples": 1, "indecision": {"estimator": "pixel_variance"}}, "at least 2 samples"),
        ({"samples": 97}, "draws at most 96 samples"),
    ],
)
def test_what_cannot_be_done_is_said(embedded, config, words):
    """Before anything is generated, in one sentence."""
    with pytest.raises(BadRequest, match=words):
        CalibrationConfig(**config).pipeline(embedded)


@pytest.mark.parametrize(
    ("name", "scenes", "pairs"), [(SHIPPED[0], 40, 64), (SHIPPED[1], 225, 292)]
)
def test_a_shipped_fit_tells_where_it_comes_from(embedded, name, scenes, pairs):
    """Upscaler, M, D, how many photographs, and which."""
    fit = shipped(name)
    assert fit.upscaler == embedded.fingerprint
    assert fit.samples is not None
    assert fit.least_samples <= fit.samples
    assert (fit.metric, fit.scenes, fit.pairs) == ("neighborhood", scenes, pairs)
    assert len(set(fit.photographs)) == pairs
    assert fit.note
