"""Words that are called right: which share of them is wrong, and why that share can be promised.

A reader finds the words k = 1 … K of a result. The score σ_k of a word is the largest σ in its box,
and it is *wrong* if the reader reads the truth otherwise in its place. Called right are the words
in the mask, those with σ_k ≤ t. Of them

    FDP(t) = #{k : σ_k ≤ t, k wrong} / max(1, #{k : σ_k ≤ t})

is the share that is wrong. One more right word lowers it, so it is not monotone, and conformal risk
control cannot bound it. Its running maximum can be bounded:

    L(t) = max over s ≤ t of FDP(s).

L rises from 0 to at most B = 1, and only at scores. By `risk_curve` the threshold t_α of n scenes
has E[L_new(t_α−)] ≤ α for a new scene that is exchangeable with them. A picture has finitely many
words, so some s < t_α has {k : σ_k ≤ s} = {k : σ_k < t_α}: the share of wrong words among those
called right is FDP(s) ≤ L(t_α−), and its mean is at most α. A picture without such a word counts 0.

Before the first wrong word FDP is 0, from there on L > 0. So 1{L(t) > τ}, with τ below 1/K, says
that *some* word called right is wrong, and the same curves give the promise for most pictures:
`Probability` with the tolerance `ANY`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.loss_curve import LossCurve
from trustscale_server.pixels.boxes import box_of

ANY = 1e-4
"""The share of wrong words above which a picture of fewer than 10,000 words has any."""


def loss_curve(scores: Sequence[float], wrong: Sequence[bool]) -> LossCurve:
    """Return L(t) of one picture from the scores of its words and which are wrong.

    Raises ValueError: a score is not finite, or there are more or fewer scores than judgements.
    """
    if len(scores) != len(wrong):
        raise ValueError(f"{len(scores)} scores, but {len(wrong)} judgements")
    if not len(scores):
        return LossCurve(np.empty(0, np.float32), np.empty(0, np.float32))
    at = np.asarray(scores, np.float32)
    order = np.argsort(at)
    at, mistakes = at[order], np.cumsum(np.asarray(wrong, bool)[order])
    called_right = np.searchsorted(at, at, side="right")  # equal scores come together
    share = mistakes[called_right - 1] / called_right
    return LossCurve.from_maps(at, share.astype(np.float32))


def share_wrong(trusted: Iterable[bool | np.bool_], wrong: Iterable[bool]) -> float:
    """Return the share of wrong words among the trusted ones (FDP), 0 without any."""
    mistakes = [is_wrong for is_trusted, is_wrong in zip(trusted, wrong, strict=True) if is_trusted]
    return sum(mistakes) / max(1, len(mistakes))


def scores_of(boxes: Iterable[NDArray[np.floating]], sigma: NDArray[np.float32]) -> list[float]:
    """Return the largest σ in each box, of float32 [H, W]."""
    scores = []
    for corners in boxes:
        place, inside = box_of(corners, sigma.shape)
        scores.append(float(sigma[place][inside].max()))
    return scores
