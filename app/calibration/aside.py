"""What scenes that calibrate nothing decide: σ, and the model that `auto` takes.

A job fits σ on a share of its scenes; the samples of the others wait in the blobs for the fit, so
nothing is generated twice. A calibration of `auto` sets another share aside. On it each model's
mask is cut as a calibration would cut it, and its trusted area is kept (`Aside`); σ is not fitted
there, which would flatter a model beside one with a shipped fit.

Names and seed alone decide which scenes these are, before anything is measured, and fit and choice
use nothing else. So calibration scenes and the next upload stay exchangeable.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from app.calibration.config import CalibrationRequest
from app.calibration.manifest import Aside, MeasuredPair
from app.calibration.measure import PairTask, packed, reduce_pair
from app.calibration.pairs import Pair
from app.calibration.record import Calibration
from app.conformal import fidelity, fitting
from app.conformal.indecision import IndecisionSettings
from app.conformal.moments import Moments
from app.errors import BadPairs
from app.images.resize import Enlarged
from app.sampling.pipeline import Measurement, Pipeline, measured_again, predicted
from app.stores.base import Blobs
from app.upscalers.base import RGB, Source

FIT_DIGITS = 16  # of the digests that an artefact keeps
SEEN, DRAWN = b"F", b"D"
"""Records of pairs that σ is fitted on, and of pairs that wait for that σ."""

_PLACE = "fit"  # where the blobs hold what waits


class Photograph(NamedTuple):
    """What the fit sees of a pair: the digest of its pixels, and its cells."""

    digest: str
    seen: fitting.FitSample


async def drawn(blobs: Blobs, task: PairTask) -> tuple[bytes, Measurement]:
    """Generate, and keep what the fit sees or, until there is a fit, the samples; the record."""
    samples: dict[int, RGB] = {}
    pair, pipeline = task.pair, task.request.pipeline
    measurement = await task.measure(samples.__setitem__)
    ordered = [samples[index] for index in range(pipeline.samples)]
    # What came first stays: an upscaler without seeds answers differently the second time.
    if pair.name not in task.request.shares.fitted:
        kept = await asyncio.to_thread(_pack_samples, ordered, measurement.witness)
        await blobs.create(task.job, f"{_PLACE}/{pair.name}", kept)
        return DRAWN, measurement
    kept = await asyncio.to_thread(
        lambda: _pack_photograph(fit_sample(pair, ordered, measurement.witness, pipeline))
    )
    await blobs.create(task.job, f"{_PLACE}/{pair.name}", kept)
    return SEEN, measurement


async def fitted(
    blobs: Blobs,
    job: str,
    request: CalibrationRequest,
    waiting: Mapping[bytes, Sequence[str]],
    load: Callable[[str], Awaitable[Pair]],
) -> tuple[Pipeline, list[MeasuredPair]]:
    """The pipeline with the fitted σ, and the pairs that waited for it.

    Without a share to fit on it is that of the request. `waiting`: names of pairs by their records,
    SEEN and DRAWN; `load` gives a pair by its name.
    """
    if not request.shares.fitted:
        return request.pipeline, []
    if not waiting[SEEN]:
        raise BadPairs("None of the pairs to fit σ on could be used.", items=[])
    seen = [await blobs.get(job, f"{_PLACE}/{name}") for name in waiting[SEEN]]
    pipeline = await asyncio.to_thread(
        fit, map(_unpack_seen, seen), request.pipeline, request.shares.scenes, request.upscaler
    )
    measured = []
    for name in waiting[DRAWN]:
        samples = await blobs.get(job, f"{_PLACE}/{name}")
        pair = await load(name)
        measured.append(await asyncio.to_thread(_reduced, pair, samples, pipeline))
    return pipeline, measured


def fit_sample(
    pair: Pair, samples: Sequence[RGB], witness: RGB | None, pipeline: Pipeline
) -> Photograph:
    """What the fit sees of a pair."""
    moments = Moments(pair.y.shape, Enlarged(pair.x, pipeline.scale))
    for sample in samples:
        moments.add(sample)
    moments.facts = pair.facts.terms()
    if witness is not None:
        moments.witness = witness
    prediction = predicted(samples, pipeline.prediction)
    seen = fitting.fit_sample(moments.maps(), fidelity.error(pair.y, prediction, pipeline.fidelity))
    return Photograph(_digest(pair.pixels_sha256), seen)


def fit(
    photographs: Iterable[Photograph], pipeline: Pipeline, scenes: int, name: str | None
) -> Pipeline:
    """The pipeline with the σ that was fitted on photographs of so many scenes, in any order.

    `name` is the upscaler's.
    """
    found = sorted(photographs, key=lambda photograph: photograph.digest)
    made = replace(
        fitting.fit([one.seen for one in found], units=fitting.units_for(scenes)),
        name=f"fitted for {name}" if name else "fitted",
        upscaler=pipeline.fingerprint,
        samples=pipeline.samples,
        metric=pipeline.fidelity.title,
        scenes=scenes,
        pairs=len(found),
        photographs=tuple(one.digest for one in found),
    )
    witness = pipeline.witness if made.needs_witness else None
    indecision = IndecisionSettings("fitted", fit=made)
    return pipeline.model_copy(update={"indecision": indecision, "witness": witness})


def _pack_photograph(photograph: Photograph) -> bytes:
    digest, seen = photograph
    return packed(
        digest=digest, names=seen.names, terms=seen.terms, error=seen.error, share=seen.share
    )


def _unpack_seen(record: bytes) -> Photograph:
    with np.load(io.BytesIO(record), allow_pickle=False) as arrays:
        seen = fitting.FitSample(
            tuple(map(str, arrays["names"])), arrays["terms"], arrays["error"], arrays["share"]
        )
        return Photograph(str(arrays["digest"]), seen)


def _pack_samples(samples: Sequence[RGB], witness: RGB | None) -> bytes:
    out = io.BytesIO()
    if witness is None:
        np.savez_compressed(out, samples=np.stack(samples))
    else:
        np.savez_compressed(out, samples=np.stack(samples), witness=witness)
    return out.getvalue()


def _reduced(pair: Pair, drawn: bytes, pipeline: Pipeline) -> MeasuredPair:
    with np.load(io.BytesIO(drawn), allow_pickle=False) as arrays:
        samples = list(arrays["samples"])
        witness = arrays.get("witness")
    measured = measured_again(samples, Source(pair.x, pair.facts), pipeline, witness, pair.seen)
    return reduce_pair(pair, measured, pipeline)


def seen_by(indecision: IndecisionSettings, pixels_sha256: str) -> bool:
    """Whether σ was fitted on the photograph with these pixels."""
    return any(_digest(pixels_sha256) in fit.photographs for fit in indecision.all_fits)


LEAST: Final = 10
"""Scenes of a class that a choice needs: half of the fewest set aside, since some X stray."""


class Choice(NamedTuple):
    """The model for a class of uploads, and what was measured."""

    upscaler: str
    why: str


def aside_of(pairs: Sequence[MeasuredPair], **settings: Any) -> Aside:
    """What a model trusts of the scenes that were set aside, at the default α.

    `settings`: upscaler, pipeline, default_alpha and guarantee of the calibration.
    """
    whole = Calibration.from_pairs(pairs, **settings)
    parts = {name: whole.of_class(name) for name in whole.classes}
    return Aside(
        alpha=whole.manifest.default_alpha,
        fidelity=whole.pipeline.fidelity,
        guarantee=whole.guarantee,
        photographs=sorted({_digest(pair.info.pixels_sha256) for pair in pairs}),
        areas={name: _areas(part) for name, part in parts.items() if part.n >= LEAST},
    )


def _areas(part: Calibration) -> dict[str, float]:
    """The share of each scene that a class's own curve trusts, by a digest of its photographs."""
    found = part.trusted_fractions(part.curve.threshold(part.manifest.default_alpha))
    digests = [
        min(_digest(part.manifest.pairs[place].pixels_sha256) for place in places)
        for places in part.members
    ]
    return {name: round(float(area), 4) for name, area in zip(digests, found, strict=True)}


def choices(
    active: Sequence[Sequence[Calibration]], usual: Callable[[str], str]
) -> Mapping[str, Choice]:
    """The model that the measurements choose for each class; empty if they cannot be compared.

    They must be made in one way, on the same scenes, and on no picture that calibrates any model.

    active: the calibrations of each model, in the order in which they are asked.
    usual: the model of a class without measurements or differences.
    """
    asides = {order[0].manifest.upscaler: order[0].manifest.aside for order in active}
    found = {name: aside for name, aside in asides.items() if aside is not None}
    if len(found) < len(asides) or len({_way(aside) for aside in found.values()}) != 1:
        return {}
    photographs = {digest for aside in found.values() for digest in aside.photographs}
    calibrating = {
        _digest(pair.pixels_sha256)
        for order in active
        for calibration in order
        for pair in calibration.manifest.pairs
    }
    if photographs & calibrating:
        return {}
    classes = set.intersection(*(set(aside.areas) for aside in found.values()))
    measured = {
        name: _chosen(
            {model: aside.areas[name] for model, aside in found.items()},
            usual(name),
            next(iter(found.values())).alpha,
        )
        for name in sorted(classes)
    }
    return {name: choice for name, choice in measured.items() if choice is not None}


def _chosen(areas: Mapping[str, Mapping[str, float]], usual: str, alpha: float) -> Choice | None:
    """The model that trusts most of the common scenes, by more than a standard error.

    Otherwise the usual one; None: too few scenes.
    """
    scenes = sorted(set.intersection(*(set(of_model) for of_model in areas.values())))
    if len(scenes) < LEAST or usual not in areas:
        return None
    values = {model: np.array([found[one] for one in scenes]) for model, found in areas.items()}
    best = max(values, key=lambda model: (values[model].mean(), model == usual))
    gains = values[best] - values[usual]
    error = float(gains.std(ddof=1) / np.sqrt(len(scenes)))
    shares = ", ".join(f"{model} {of_model.mean():.0%}" for model, of_model in values.items())
    words = f"measured on {len(scenes)} scenes at α = {alpha:g}, trusted are: {shares}"
    if best == usual:
        return Choice(usual, words)
    if gains.mean() <= error:
        return Choice(usual, f"{words}; the gain is within its standard error (± {error:.1%})")
    return Choice(best, words)


def _way(aside: Aside) -> str:
    return aside.model_dump_json(include={"alpha", "fidelity", "guarantee"})


def _digest(pixels_sha256: str) -> str:
    return pixels_sha256[:FIT_DIGITS]
