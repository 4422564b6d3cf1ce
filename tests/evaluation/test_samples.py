"""Samples are generated once and measured by the code that serves."""

from __future__ import annotations

import numpy as np
import pytest

from app.conformal.indecision import Settings
from app.errors import DegenerateSamples
from app.evaluation.cache import SampleCache
from app.evaluation.samples import drawn, wanted
from app.sampling.measure import measure
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Source
from tests.factories import photo
from tests.fakes import FakeUpscaler


def pipelines() -> list[Pipeline]:
    base = Pipeline(fingerprint="fake:1", scale=2, samples=5)
    return [
        base,
        base.model_copy(update={"prediction": "mean"}),
        base.model_copy(update={"samples": 3}),
        base.model_copy(update={"indecision": Settings(estimator="patch_variance", blur=1.0)}),
    ]


@pytest.mark.parametrize("cached", [False, True])
async def test_as_served(tmp_path, cached):
    """Every Ŷ and σ is what `measure` gives a request, from the cache as from the upscaler."""
    upscaler, source, cache = FakeUpscaler(), Source(photo()), SampleCache(tmp_path)
    if cached:
        await drawn(upscaler, source, 9, pipelines(), cache)
        upscaler.calls.clear()
    found = await drawn(upscaler, source, 9, pipelines(), cache)
    assert found.generated is not cached
    assert len(upscaler.calls) == (0 if cached else 5)
    for pipeline in pipelines():
        served = await measure(upscaler, source, pipeline, 9)
        mine = found.measurements[wanted(pipeline)]
        assert np.array_equal(mine.prediction, served.prediction)
        assert np.array_equal(mine.sigma, served.sigma)


async def test_identical_samples_are_refused(tmp_path):
    """A degenerate upscaler stops an evaluation as it stops a request."""
    upscaler = FakeUpscaler(strength=0.0)
    with pytest.raises(DegenerateSamples):
        await drawn(upscaler, Source(photo()), 9, pipelines(), SampleCache(tmp_path))
    assert list(tmp_path.iterdir()) == []
