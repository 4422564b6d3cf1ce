"""What a picture costs for more or fewer generations, and what is trusted of it.

A pair that was measured with M samples tells what the first of them alone would have given, so one
calibration shows the price of every smaller M. It does so on some of its pairs: that is enough to
choose M by, and costs little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from app.calibration.guarantee import GuaranteeSettings
from app.calibration.manifest import MeasuredPair, PricePoint, scene_of
from app.conformal import fidelity
from app.conformal.backtest import trusted_share
from app.conformal.curve import places_of
from app.sampling.pipeline import Pipeline, default_indecision

COMMON_ALPHAS: Final = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)

_COUNTS: Final = (1, 2, 4, 8)
_MOST_PAIRS: Final = 60
_WORTH: Final = 0.02
"""Of the picture: what less than that is not worth another generation."""


def tells(name: str, names: Sequence[str]) -> bool:
    """Whether a pair is one of those that tell the price, whatever the order of the names."""
    if len(names) <= _MOST_PAIRS:
        return True
    keys = {name: hashlib.sha256(name.encode()).digest() for name in names}
    return keys[name] <= sorted(keys.values())[_MOST_PAIRS - 1]


def with_fewer(pipeline: Pipeline) -> list[Pipeline]:
    """The pipelines with fewer samples, each under a σ that its M allows."""
    if fidelity.needs_label(pipeline.fidelity):  # labels are drawn on one prediction
        return []
    found = []
    for count in (count for count in _COUNTS if count < pipeline.samples):
        sigma = pipeline.indecision
        if sigma.fit is not None or sigma.least_samples > count:
            sigma = default_indecision(pipeline.fingerprint, count, pipeline.fidelity)
        found.append(pipeline.model_copy(update={"samples": count, "indecision": sigma}))
    return found


def points(
    pairs: Sequence[MeasuredPair],
    pipeline: Pipeline,
    guarantee: GuaranteeSettings,
    alphas: Sequence[float],
) -> list[PricePoint]:
    """Trusted area for each M and α, of the pairs that tell it; nothing if none does."""
    telling = [pair for pair in pairs if pair.fewer]
    if not telling:
        return []
    scenes = [scene_of(pair.info) for pair in telling]
    found = []
    for samples in (*sorted(telling[0].fewer), pipeline.samples):
        seen = [pair.fewer.get(samples, pair) for pair in telling]
        quantiles = np.array([pair.sigma_quantiles for pair in seen])
        curve = guarantee.curve(
            [pair.staircase for pair in seen],
            fidelity.bound(pipeline.fidelity),
            scenes=scenes,
            highest=float(quantiles[:, -1].max()),
        )
        found += [
            PricePoint(
                samples=samples,
                alpha=alpha,
                trusted_area=trusted_share(quantiles, curve.threshold(alpha), places_of(scenes)),
            )
            for alpha in alphas
        ]
    return found


def priced(
    points: Sequence[PricePoint], samples_per_call: int, price_per_call: float | None
) -> list[dict[str, Any]]:
    """The points with what they cost in calls and money."""
    rows = []
    for point in points:
        calls = -(-point.samples // samples_per_call)
        money = None if price_per_call is None else calls * price_per_call
        rows.append({**point.model_dump(), "calls": calls, "money": money})
    return rows


def advice(rows: Sequence[Mapping[str, Any]], alpha: float) -> str | None:
    """Which M is enough, in one sentence; None with nothing to choose from."""
    nearest = min((row["alpha"] for row in rows), key=lambda one: abs(one - alpha), default=alpha)
    areas = {row["samples"]: row["trusted_area"] for row in rows if row["alpha"] == nearest}
    if len(areas) < 2:
        return None
    enough = min(m for m, area in areas.items() if area >= max(areas.values()) - _WORTH)
    told = ", ".join(
        f"{m} {'generation trusts' if m == 1 else 'generations trust'} {area:.0%}"
        for m, area in sorted(areas.items())
    )
    verb = "is" if enough == 1 else "are"
    return f"At α = {nearest:g} {told} of the picture: {enough} {verb} enough."
