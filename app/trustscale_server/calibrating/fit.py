"""σ is fitted on a share of a job's scenes, which then calibrate nothing.

Names and seed alone decide which scenes these are (`fit_split.py`), before anything is measured,
and the fit uses nothing else. So calibration scenes and the next upload stay exchangeable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from trustscale_server.calibrating.pairs import Pair
from trustscale_server.conformal import fidelity
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.prediction import predicted
from trustscale_server.sampling.shown import answered
from trustscale_server.sampling.sigma import fitting
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.moments import Moments
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import RGB, Source

FIT_DIGITS = 16  # of the digests that an artefact keeps


class Photograph(NamedTuple):
    """What the fit sees of a pair: the digest of its pixels, and its cells."""

    digest: str
    sample: fitting.FitSample


def photograph_of(pair: Pair, samples: Sequence[RGB], pipeline: MeasurementSpec) -> Photograph:
    """Return what the fit sees of a pair."""
    enlarged, facts = Enlarged(pair.x, pipeline.scale), pair.features.terms()
    moments = Moments(pair.y.shape, enlarged, facts=facts)
    for sample in samples:
        moments.add(sample)
    made = predicted(samples, pipeline.prediction)
    picture, _ = answered(Source(pair.x, pair.features), made, pipeline)
    error = fidelity.error(pair.y, picture, pipeline.fidelity)
    return Photograph(_digest(pair.pixels_sha256), fitting.fit_sample(moments.maps(), error))


def fitted_pipeline(
    photographs: Iterable[Photograph], pipeline: MeasurementSpec, scenes: int, name: str | None
) -> MeasurementSpec:
    """Return the pipeline with the σ fitted on photographs of a number of scenes.

    name: the upscaler's.
    """
    ordered = sorted(photographs, key=lambda photograph: photograph.digest)
    fitted_sigma = replace(
        fitting.fit([photograph.sample for photograph in ordered], units=fitting.units_for(scenes)),
        name=f"fitted for {name}" if name else "fitted",
        upscaler=pipeline.fingerprint,
        samples=pipeline.samples,
        metric=pipeline.fidelity.metric,
        scenes=scenes,
        pairs=len(ordered),
        photographs=tuple(photograph.digest for photograph in ordered),
    )
    return pipeline.model_copy(
        update={"indecision": IndecisionSettings("fitted", fit=fitted_sigma)}
    )


def is_fitted_on(indecision: IndecisionSettings, pixels_sha256: str) -> bool:
    """Return whether σ was fitted on the photograph with these pixels."""
    return any(_digest(pixels_sha256) in fit.photographs for fit in indecision.all_fits)


def _digest(pixels_sha256: str) -> str:
    return pixels_sha256[:FIT_DIGITS]
