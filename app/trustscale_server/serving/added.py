"""What a model added to one picture, and how much of it is real, in numbers and words.

Three kinds of place: *unchanged*, where nothing visible was added; added and *held* up, by the
promise of `conformal/added.py`; added and *doubtful*.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from pydantic import BaseModel, Field

from trustscale_server.conformal.added import DELTA
from trustscale_server.sampling.sigma.added_score import UNCHANGED, Added

RHO: Final = 0.3
"""The share of what is marked as real that may be invented, by default."""

LITTLE: Final = 0.05
"""Less than this share of what was added is nothing to rely on."""


class AddedDetail(BaseModel):
    """What the model added, and how much of it is real."""

    plain: str = Field(description="What it added and how much of it holds up, in words.")
    promise: str | None = Field(
        None, description="What that says of other pictures; null: nothing is promised."
    )
    unchanged: float = Field(
        ge=0, le=1, description="The share of the picture to which nothing visible was added."
    )
    held: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The share of what was added that holds up; null: nothing is known of it.",
    )
    doubtful: float | None = Field(
        None, ge=0, le=1, description="The rest of what was added; null: nothing is known of it."
    )
    rho: float = Field(description="ρ: at most this share of what holds up is invented.")
    certainty: float = Field(
        1 - DELTA, description="The probability with which the calibration keeps the promise."
    )


def added_detail(
    added: Added, threshold: int | None, rho: float, *, why_not: str | None = None
) -> AddedDetail:
    """Describe what was added.

    threshold: `Subset.added_threshold`. why_not: why nothing is promised about the upload.
    """
    changed = added.codes != UNCHANGED
    unchanged = 1 - float(changed.mean())
    total = float(added.energy[changed].sum(dtype=np.float64))
    if total == 0:
        plain = "The model added nothing that can be seen."
        return AddedDetail(plain=plain, unchanged=unchanged, rho=rho)
    if threshold is None or why_not is not None:
        why = why_not or "The calibration was made before that was looked at"
        plain = f"The model added detail. How much of it is real is not promised. {why}."
        return AddedDetail(plain=plain, unchanged=unchanged, rho=rho)
    held = min(1.0, float(added.energy[added.codes < threshold].sum(dtype=np.float64)) / total)
    return AddedDetail(
        plain=_in_words(held),
        promise=_promise_of(rho) if held else None,
        unchanged=unchanged,
        held=held,
        doubtful=1 - held,
        rho=rho,
    )


def _in_words(held: float) -> str:
    if held < LITTLE:
        return "The model added detail. Nothing here can be relied on beyond your own file."
    return f"The model added detail. {100 * held:.0f} % of it holds up."


def _promise_of(rho: float) -> str:
    return (
        f"Of the detail that is marked as real, at most {100 * rho:g} % is invented, on average "
        f"over pictures like yours, with a probability of {1 - DELTA:g} over the calibration."
    )
