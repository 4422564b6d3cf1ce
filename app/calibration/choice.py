"""Which model `auto` takes for a class of uploads, measured on scenes that calibrate nothing.

A calibration of `auto` sets a share of its scenes aside. On them each model's mask is cut as a
calibration would cut it, and its trusted area is kept (`Aside`). The choice uses nothing else, so
calibration scenes and the next upload stay exchangeable, and every curve keeps its promise. Nor is
σ fitted on these scenes, which would flatter a model beside one with a shipped fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from app.calibration.fit import FIT_DIGITS
from app.calibration.manifest import Aside, MeasuredPair
from app.calibration.record import Calibration

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
