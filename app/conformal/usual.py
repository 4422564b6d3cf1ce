"""The error that nine of ten pictures do not exceed inside their masks, in the words of a layman.

A mask is cut for a promise about the mean of the largest error L. The same calibration scenes also
say how large L usually is. With K scenes, t̂ the threshold that was chosen, and a share β fixed in
advance, let

    t⁺ = sup{t : (1/(K + 1)) Σ_i L̄_i(t) ≤ α}
    τ̂ = min{τ : Σ_i (mean over the crops of scene i of 1{L_ij(t⁺−) > τ}) + 1 ≤ β (K + 1)}

**Then P(L_new(t̂−) > τ̂) ≤ β**, over the draw of the scenes and of the picture, although t̂ and τ̂
come from the same scenes. *Proof.* Let t′ = sup{t : (1/(K + 1)) Σ_{i ≤ K+1} L̄_i(t) ≤ α}, with the
new scene among them, so t̂ ≤ t′ ≤ t⁺; and τ′ the least τ for which at most β (K + 1) of the K + 1
scenes lie above τ at t′, counted by shares. Both are symmetric in the K + 1 scenes, hence
P(L_new(t′−) > τ′) ≤ β. At τ̂ the K scenes at t′ ≤ t⁺ and the new one, which counts 1 at most, are at
most β (K + 1), so τ′ ≤ τ̂. And L_new(t̂−) ≤ L_new(t′−). ∎

`RiskCurve` with B replaced by 0 is the curve of t⁺.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

USUALLY: Final = 0.1
"""β: one of ten."""


def exceeded_by(losses: Sequence[Sequence[float]], share: float = USUALLY) -> float | None:
    """τ̂: what at most the share β of the scenes' losses exceed, the new one counted as the worst.

    Args:
        losses: L_ij(t⁺−) of the crops j of each scene i.
        share: β in (0, 1).

    Returns:
        One of the losses, or 0; None with so few scenes that nothing can be said.
    """
    n = len(losses)
    if 1 / (n + 1) > share:
        return None
    values = np.concatenate([np.asarray(crops, np.float64) for crops in losses])
    weights = np.concatenate([np.full(len(crops), 1 / len(crops)) for crops in losses])
    order = np.argsort(-values, kind="stable")
    values, above = values[order], np.cumsum(weights[order])
    # At τ = values[k] at most the first k lie above it.
    over = (above + 1) / (n + 1) > share
    return float(values[np.argmax(over)]) if over.any() else 0.0
