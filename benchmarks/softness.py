"""Which uploads are told to be soft? `python -m benchmarks.softness DIR…`.

Folders hold high-resolution photographs, from which sharp and soft inputs are made and saved. For
each kind of file and of softness: the area under the ROC curve against sharp inputs, the share that
is told to be soft, and that area for the plain ratio of the energies of differences of neighbours
and over two pixels.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.calibration.intake import find_in
from app.images.decode import PAIR_LIMITS, decode
from app.images.degrade import Degradation, make_input
from app.images.facts import energies, look_at
from benchmarks.table import print_table

SCALE = 4
FILES: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG 90": {"jpeg": 90},
    "JPEG 70": {"jpeg": 70},
    "JPEG 40": {"jpeg": 40},
    "WebP 75": {"webp": 75},
}
SHARP: list[dict[str, Any]] = [{}, {"reduction": "area"}, {"reduction": "lanczos"}]
SOFT: dict[str, list[dict[str, Any]]] = {
    **{
        f"×{factor}": [
            {"enlarged": factor, "kernel": kernel} for kernel in ("bilinear", "bicubic", "lanczos")
        ]
        for factor in (1.25, 1.5, 2)
    },
    "blur 0.7": [{"blur": 0.7}],
    "blur 1": [{"blur": 1.0}],
}

Rows = list[tuple[float, ...]]


def looked_at(folder: Path, every: int) -> dict[tuple[str, str], Rows]:
    """By file and kind: softness, whether it is told to be soft, and two of the energies."""
    found = defaultdict(list)
    kinds = {"sharp": SHARP, **SOFT}
    for files in find_in(folder)[::every]:
        truth = decode(Path(str(files.y)).read_bytes(), PAIR_LIMITS).rgb
        for form, saved in FILES.items():
            for kind, ways in kinds.items():
                for steps in ways:
                    made = make_input(truth, SCALE, Degradation(**steps, **saved), 0)
                    facts = look_at(*made)
                    luma = made.pixels @ np.array([0.299, 0.587, 0.114], np.float32)
                    seen = (facts.softness, float(facts.is_soft), *energies(luma)[:2])
                    found[form, kind].append(seen)
    return found


def area(sharp: NDArray[Any], soft: NDArray[Any]) -> float:
    """Under the ROC curve."""
    return float((soft[:, None] > sharp[None]).mean())


def main() -> None:
    """Print a table for each folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    given = parser.parse_args()
    for folder in given.folders:
        found = {key: np.array(rows) for key, rows in looked_at(folder, given.every).items()}
        print(f"\n{folder}: area under the curve / told to be soft / area by the plain ratio\n")
        rows = []
        for form in FILES:
            sharp = found[form, "sharp"]
            cells = [f"{sharp[:, 1].mean():.2f}"]
            for kind in SOFT:
                soft = found[form, kind]
                plain = area(sharp[:, 3] - sharp[:, 2], soft[:, 3] - soft[:, 2])
                own = area(sharp[:, 0], soft[:, 0])
                cells.append(f"{own:.3f} / {soft[:, 1].mean():.2f} / {plain:.3f}")
            rows.append((form, *cells))
        print_table(("saved as", "sharp told to be soft", *SOFT), rows)


if __name__ == "__main__":
    main()
