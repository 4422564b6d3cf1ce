"""Samples are generated once; σ, Ŷ and D of them are those of the code that serves."""

from __future__ import annotations

import numpy as np
import pytest

from app.calibration.pairs import load_pair
from app.conformal import fidelity
from app.conformal.fidelity import FidelitySettings
from app.conformal.indecision import IndecisionSettings
from app.errors import DegenerateSamples
from app.evaluation.cache import SampleCache
from app.evaluation.measure import image_of
from app.evaluation.variants import SEMANTIC
from app.sampling.measure import measure
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Source
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler

BASE = Pipeline(fingerprint="fake:1", scale=2, samples=5)
PIPELINES = [
    BASE,
    BASE.model_copy(update={"prediction": "mean"}),
    BASE.model_copy(update={"samples": 3}),
    BASE.model_copy(update={"indecision": IndecisionSettings("patch_variance", blur=1.0)}),
]


@pytest.fixture
def pair():
    return load_pair("a", encoded(photo()), None, BASE, degradation=None, seed=9)


@pytest.mark.parametrize("cached", [False, True])
async def test_as_served(tmp_path, pair, cached):
    """Every Ŷ and σ is what `measure` gives a request, from the cache as from the upscaler."""
    upscaler, cache = FakeUpscaler(), SampleCache(tmp_path)
    if cached:
        await image_of(0, pair, upscaler, BASE, cache, witnessed=False)
        upscaler.calls.clear()
    image = await image_of(0, pair, upscaler, BASE, cache, witnessed=False)
    assert image.is_new is not cached
    assert len(upscaler.calls) == (0 if cached else 5)
    for pipeline in PIPELINES:
        served = await measure(upscaler, Source(pair.x), pipeline, pair.seed)
        assert np.array_equal(image.prediction(pipeline), served.prediction)
        assert np.array_equal(image.sigma(pipeline), served.sigma)


async def test_errors_are_those_of_the_core(tmp_path, pair):
    """A map that two settings share is the one that `fidelity.error` makes."""
    image = await image_of(0, pair, FakeUpscaler(), BASE, SampleCache(tmp_path), witnessed=False)
    for settings in (
        FidelitySettings(),
        FidelitySettings(bound=0.01),
        FidelitySettings(blur=2.0, bound=3.0),
        FidelitySettings(metric="pointwise", bound=0.05),
        FidelitySettings(metric="neighborhood_difference"),
        SEMANTIC,
    ):
        for pipeline in PIPELINES:
            expected = fidelity.error(pair.y, image.prediction(pipeline), settings)
            assert np.array_equal(image.error(pipeline, settings), expected)


async def test_identical_samples_are_refused(tmp_path, pair):
    """A degenerate upscaler stops an evaluation as it stops a request."""
    with pytest.raises(DegenerateSamples):
        await image_of(
            0, pair, FakeUpscaler(strength=0.0), BASE, SampleCache(tmp_path), witnessed=False
        )
    assert list(tmp_path.iterdir()) == []
