"""What a finished calibration tells its admin: thresholds, checks of the assumptions, backtest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.calibration.pairs import duplicates
from app.calibration.record import Calibration
from app.conformal.backtest import BacktestRow, backtest
from app.conformal.guarantees import leakage_bound, minimal_n
from app.errors import BadRequest

COMMON_ALPHAS = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)


def thresholds(calibration: Calibration) -> list[dict[str, float]]:
    """t_α and the mean trusted area of the pairs at common α."""
    rows = []
    for alpha in COMMON_ALPHAS:
        threshold = calibration.curve.threshold(alpha)
        rows.append(
            {
                "alpha": alpha,
                "threshold": threshold,
                "trusted_fraction": calibration.mean_trusted_fraction(threshold),
            }
        )
    return rows


def checks(calibration: Calibration) -> dict[str, Any]:
    """Whether the assumptions look sound: n, repeated images, image sizes, dominant pairs."""
    alpha = calibration.manifest.default_alpha
    threshold = calibration.curve.threshold(alpha)
    losses = np.array([s.loss_below(threshold) for s in calibration.staircases])
    share = losses / losses.sum() if losses.sum() > 0 else losses
    order = np.argsort(share)[::-1][:5]
    infos = calibration.manifest.pairs
    return {
        "n": calibration.n,
        "minimal_n": minimal_n(alpha, calibration.bound),
        "alpha": alpha,
        "duplicates": duplicates((info.name, info.y_sha256) for info in infos),
        "sizes": sorted({f"{info.width}x{info.height}" for info in infos})[:20],
        "dominant_pairs": [
            {"name": infos[i].name, "loss": float(losses[i]), "share": float(share[i])}
            for i in order
        ],
    }


def run_backtest(
    calibration: Calibration, splits: int, alphas: Sequence[float] = COMMON_ALPHAS
) -> list[BacktestRow]:
    """Realised loss and trusted area over random halvings of the pairs.

    Raises:
        BadRequest: fewer than two pairs.
    """
    if calibration.n < 2:
        raise BadRequest("A backtest needs at least two pairs.")
    return backtest(
        calibration.staircases,
        calibration.sigma_quantiles,
        calibration.bound,
        alphas,
        splits=splits,
    )


def leaked(calibration: Calibration, n_leaked: int) -> float:
    """The bound at the default α that survives `n_leaked` training images among the pairs.

    Raises:
        BadRequest: n_leaked is not between 0 and n.
    """
    try:
        return leakage_bound(
            calibration.manifest.default_alpha, calibration.n, n_leaked, calibration.bound
        )
    except ValueError as error:
        raise BadRequest(f"{error}.") from error
