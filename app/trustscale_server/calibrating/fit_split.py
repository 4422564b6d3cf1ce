"""Which scenes of a job σ is fitted on; they calibrate nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from trustscale_server.sampling.sigma import fitting


@dataclass(frozen=True, slots=True)
class FitSplit:
    """The names of the pairs that σ is fitted on, how many scenes they show, and a note on it."""

    fitted: frozenset[str] = frozenset()
    scenes: int = 0
    note: str | None = None


def default_share(scenes: int) -> float:
    """Return the share of the scenes that σ is fitted on by default: 0.3, or more of few.

    Fit and calibration have `MIN_SCENES` each; with fewer scenes nothing is fitted.
    """
    if scenes < 2 * fitting.MIN_SCENES:
        return 0.0
    return max(0.3, fitting.MIN_SCENES / scenes)


def fit_split(scenes: Mapping[str, str], share: float, seed: int) -> FitSplit:
    """Return the pairs whose scenes the seed draws to fit σ on, the share 0 … 0.9 of all scenes.

    scenes: of each pair, by its name.
    """
    if not share:
        return FitSplit()
    drawn = sorted(
        set(scenes.values()),
        key=lambda scene: hashlib.sha256(f"fit:{seed}:{scene}".encode()).digest(),
    )
    count = round(share * len(drawn))
    if count < fitting.MIN_SCENES:
        return FitSplit(
            note=f"σ was not fitted: {count} of {len(drawn)} scenes would cost the calibration "
            f"more than they give; at least {fitting.MIN_SCENES} are needed."
        )
    chosen = set(drawn[:count])
    names = frozenset(name for name, scene in scenes.items() if scene in chosen)
    note = f"σ was fitted on {count} of {len(drawn)} scenes; the others calibrate."
    return FitSplit(names, count, note)
