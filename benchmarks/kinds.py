"""Learn the table of kinds: `python -m benchmarks.kinds DIR [--judge DIR]`.

DIR holds photographs, only Y, that calibrate nothing. Of each an input is made in every typical
way (`kinds/typical.py`); their descriptions are the rows of a multinomial logistic regression,
whose weights become TABLE. Which class the ways belong to, and its words, stand below.

With `--judge`, for other photographs: which classes uploads of each way are read as. The table
stays as it is.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.photos import photo_folder
from benchmarks.table import print_table
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.kinds.classes import MAX_DEVIATIONS, file_numbers, kinds_table
from trustscale_server.kinds.degrade import DegradedInput, make_input, subject_of
from trustscale_server.kinds.resaved import strongest_compression
from trustscale_server.kinds.statistics import describe
from trustscale_server.kinds.typical import TYPICAL_UPLOADS

TABLE: Final = Path("app/trustscale_server/kinds/classes.json")
SCALE: Final = 4
RIDGE: Final = 2.0
PRIOR: Final = 0.5  # the power of a way's share

CLASSES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "lossless": ("saved without loss", ("lossless",)),
    "noisy": ("saved without loss, with noise in every pixel", ("noisy",)),
    "jpeg-85": ("JPEG of a quality of about 85 or more", ("jpeg-85",)),
    "jpeg-65": ("JPEG of a quality of about 65 to 84", ("jpeg-65",)),
    "jpeg-30": ("JPEG of a quality of about 30 to 64", ("jpeg-30",)),
    "webp": ("WebP with loss", ("webp",)),
    "heic": ("HEIC or AVIF, as phones save it", ("heic",)),
    "palette": ("with a palette of colours, as in GIF files", ("palette",)),
    "decoded": (
        "saved without loss, but from a JPEG, WebP, HEIC or video file before",
        ("decoded",),
    ),
    "soft": ("soft (enlarged a little or blurred before)", ("soft", "soft-lossy")),
    "enlarged": ("enlarged by two to four before", ("enlarged",)),
    "smoothed": ("freed of noise, as in phones", ("smoothed",)),
    "denoised": ("freed of much noise, flat between edges", ("denoised",)),
    "motion": ("blurred by a movement of the camera", ("motion",)),
    "collage": ("sharp in some parts and soft in others", ("collage",)),
    "page": ("flat areas beside photographs, as in pages and screenshots", ("page",)),
    "line-art": ("line art: text, lines and flat areas", ("drawn",)),
}
CLASS_OF: Final = {way: name for name, (_, ways) in CLASSES.items() for way in ways}


class Row(NamedTuple):
    """A described input; kind: the way."""

    kind: str
    numbers: Mapping[str, float]


def row(kind: str, made: DegradedInput) -> Row:
    """What the table sees of an input."""
    worst = strongest_compression(made.compression, made.pixels)
    return Row(kind, {**describe(made.pixels), **file_numbers(made.compression, worst)})


def rows_of(folder: Path, keep: Path) -> Iterator[Row]:
    """Of every photograph; what is kept of a stopped run is not made again."""
    for files in find_in(folder):
        path = Path(files.paths["y"])
        kept = keep / f"{folder.name}-{path.stem}.pickle"
        if not kept.exists():
            truth = decode(path.read_bytes(), PAIR_LIMITS).rgb
            rows = []
            for way, part in TYPICAL_UPLOADS.variants().items():
                seed = zlib.crc32(f"{path.stem} {way}".encode())
                made = make_input(subject_of(truth, SCALE, part, seed), SCALE, part, seed)
                rows.append(row(way, made))
            kept.write_bytes(pickle.dumps(rows))
        yield from pickle.loads(kept.read_bytes())


def learned(rows: Sequence[Row]) -> dict[str, Any]:
    """The table of these rows, as JSON values."""
    names = [*rows[0].numbers]
    values = np.array([[one.numbers[name] for name in names] for one in rows])
    centre = np.round(np.nanmean(values, axis=0), 4)
    spread = np.round(np.nanstd(values, axis=0), 4) + 1e-4
    values = np.nan_to_num(np.clip((values - centre) / spread, -MAX_DEVIATIONS, MAX_DEVIATIONS))
    kinds = [*CLASS_OF]
    weights, bias = regression(values, np.array([kinds.index(one.kind) for one in rows]))
    total = sum(TYPICAL_UPLOADS.share(way) for way in CLASS_OF)
    for place, way in enumerate(CLASS_OF):
        bias[place] += PRIOR * np.log(TYPICAL_UPLOADS.share(way) * len(CLASS_OF) / total)
    return {
        "classes": {name: words for name, (words, _) in CLASSES.items()},
        "numbers": dict(zip(names, np.round([centre, spread], 4).T.tolist(), strict=True)),
        "kinds": {
            kind: {
                "class": CLASS_OF[kind],
                "bias": round(float(bias[place]), 3),
                "weights": np.round(weights[place], 3).tolist(),
            }
            for place, kind in enumerate(kinds)
        },
    }


def regression(
    values: NDArray[np.float64], places: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [k, d] and bias [k] of the multinomial logistic regression of places in [0, k)."""
    count, length = int(places.max()) + 1, values.shape[1]
    truth = np.eye(count)[places]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = np.split(flat.reshape(count, length + 1), [length], axis=1)
        scores = values @ weights.T + bias.T
        scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
        slope = np.exp(scores) - truth
        found = -(scores * truth).sum() + RIDGE / 2 * np.square(weights).sum()
        change = [slope.T @ values + RIDGE * weights, slope.sum(axis=0)[:, None]]
        return float(found), np.concatenate(change, axis=1).ravel()

    start = np.zeros(count * (length + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    found = found.reshape(count, length + 1)
    return found[:, :-1], found[:, -1]


def judge(rows: Sequence[Row]) -> None:
    """Print as what each kind is read."""
    seen: dict[str, list[str]] = defaultdict(list)
    for one in rows:
        seen[one.kind].append(kinds_table().kind_of(kinds_table().standardised(one.numbers)).name)
    lines = []
    for kind, names in seen.items():
        common = Counter(names).most_common(4)
        read = ", ".join(f"{name} {count / len(names):.2f}" for name, count in common)
        lines.append((kind, str(len(names)), read))
    print_table(("made by", "inputs", "read as"), lines)


def main() -> None:
    """Learn the table, or judge it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-kinds")
    parser.add_argument("--judge", type=Path, help="other photographs")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    if given.judge is not None:
        judge([*rows_of(given.judge, given.keep)])
        return
    made = learned([*rows_of(given.folder, given.keep)])
    lines = json.dumps(made, indent=1, ensure_ascii=False)
    TABLE.write_text(compact(lines) + "\n", encoding="utf-8")


def compact(text: str) -> str:
    """JSON with each list of numbers on one line."""
    return re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\s+", "", m.group()), text)


if __name__ == "__main__":
    main()
