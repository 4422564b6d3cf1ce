"""Which model for which class of uploads? `python -m benchmarks.auto [--precision bf16]`.

From the shipped calibrations alone: by class, the mean worst error of the whole picture (counted up
to 0.5) and the trusted area at each α, with the standard error of the difference of the areas; then
what `auto` gives.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import print_table
from trustscale_server.calibration.active import shipped_calibration
from trustscale_server.calibration.record import SIGMA_QUANTILES, Calibration
from trustscale_server.images.kinds import class_in_words
from trustscale_server.serving.choose import chosen_from
from trustscale_server.settings import TABLE
from trustscale_server.upscalers.runtime import SHIPPED

ALPHAS = (0.05, 0.1)


def areas(part: Calibration, alpha: float) -> dict[str, float]:
    """The area that is trusted of each pair, by name."""
    limit = part.curve.threshold(alpha)
    shares = [np.interp(limit, row, SIGMA_QUANTILES) for row in part.sigma_quantiles]
    return dict(zip((pair.name for pair in part.manifest.pairs), shares, strict=True))


def worst(part: Calibration) -> float:
    """Mean over the pairs of the largest error of the whole picture."""
    return float(np.mean([one.loss_below(np.inf) for one in part.counted]))


def compared(parts: list[Calibration], alpha: float) -> str:
    """Areas of both models, and the standard error of their difference over the same pictures."""
    first, second = (areas(part, alpha) for part in parts)
    both: NDArray[np.float64] = np.array([(first[n], second[n]) for n in first if n in second])
    error = np.std(both[:, 1] - both[:, 0], ddof=1) / np.sqrt(len(both))
    return f"{both[:, 0].mean():.3f} / {both[:, 1].mean():.3f} ± {error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16")
    given = parser.parse_args()
    shipped = [shipped_calibration(f"{name}-{given.precision}") for name in SHIPPED]
    rows = []
    for name in shipped[0].partitions.classes:
        parts = [one.partitions.of_class(name) for one in shipped]
        errors = " / ".join(f"{worst(part):.3f}" for part in parts)
        chosen = chosen_from(TABLE, name)
        cells = [compared(parts, alpha) for alpha in ALPHAS]
        rows.append((name, str(parts[0].n), errors, *cells, chosen, class_in_words(name)))
    models = " / ".join(SHIPPED)
    print(f"\n{models}; worst error, then trusted area ± the standard error of the difference\n")
    head = ("class", "scenes", "worst error", *(f"α = {alpha:g}" for alpha in ALPHAS), "auto", "")
    print_table(head, rows)


if __name__ == "__main__":
    main()
