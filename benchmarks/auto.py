"""Which model for which class of uploads? `python -m benchmarks.auto [--precision bf16]`.

From the shipped calibrations alone: by class, the mean loss of a spot that is trusted as a whole,
and the trusted area at each α, with the standard error of the difference of the areas; then what
`auto` gives.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import print_table
from trustscale_server.bootstrap.fields import DEFAULT_ROUTING
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.conformal.backtest import trusted_shares
from trustscale_server.kinds.classes import class_in_words
from trustscale_server.upscalers.base import routed
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS

ALPHAS = (0.03, 0.05)


def compared(parts: list[Calibration], alpha: float) -> str:
    """Areas of both models, and the standard error of their difference over the same pictures."""
    first, second = (
        dict(zip((pair.name for pair in part.manifest.pairs), areas, strict=True))
        for part in parts
        for areas in [trusted_shares(part.arrays.sigma_quantiles, part.curve.threshold(alpha))]
    )
    names = [pair.name for pair in parts[0].manifest.pairs]
    weights = {n: float(w) for n, w in zip(names, parts[0].weights, strict=True) if n in second}
    both: NDArray[np.float64] = np.array([(first[name], second[name]) for name in weights])
    shares = np.array(list(weights.values())) / sum(weights.values())
    means, apart = shares @ both, both[:, 1] - both[:, 0]
    error = np.sqrt(np.sum((shares * (apart - shares @ apart)) ** 2))
    return f"{means[0]:.3f} / {means[1]:.3f} ± {error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16")
    given = parser.parse_args()
    shipped = [shipped_calibration(f"{name}-{given.precision}") for name in SHIPPED_MODELS]
    rows = []
    for name in shipped[0].everything.classes:
        parts = [one.everything.of_class(name) for one in shipped]
        errors = " / ".join(f"{part.mean(part.losses(np.inf)):.3f}" for part in parts)
        chosen = routed(DEFAULT_ROUTING, name)
        cells = [compared(parts, alpha) for alpha in ALPHAS]
        rows.append((name, str(parts[0].n), errors, *cells, chosen, class_in_words(name)))
    models = " / ".join(SHIPPED_MODELS)
    print(f"\n{models}; loss of all, then trusted area ± the standard error of the difference\n")
    head = ("class", "scenes", "loss of all", *(f"α = {alpha:g}" for alpha in ALPHAS), "auto", "")
    print_table(head, rows)


if __name__ == "__main__":
    main()
