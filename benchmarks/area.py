"""What does `auto` serve, and is it kept? `python -m benchmarks.area DIR [--precision bf16]`.

DIR holds high-resolution photographs that had no part in a calibration nor in a fit of σ (only Y);
the screenshots are those of the documentation. Each upload is answered by the upscaler that the
routing names for its class, from its shipped calibration, at the default Γ: the mean loss of the
answers with its standard error, the trusted area, the share that gets no promise (its area is 0),
and what answered. `!`: the loss is above α by more than two standard errors.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.auto import ALPHAS, Candidate, Found, candidates, found_of, pairs_of
from benchmarks.photos import photo_folder
from benchmarks.table import print_table
from trustscale_server.bootstrap.fields import DEFAULT_ROUTING
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibrating.pairs import Pair
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.upscalers.base import routed

SCREENSHOTS: Final = Path("docs/images")
SIDE: Final = 512  # of the pieces of a screenshot
KINDS: Final[Mapping[str, Degradation | Mixture]] = {
    "PNG": Degradation(),
    "JPEG 75": Degradation(jpeg=75),
    "soft (blurred by 1, JPEG 90)": Degradation(blur=1, jpeg=90),
    "soft (enlarged by 1.5)": Degradation(enlarged=1.5),
    "pages with pictures": TYPICAL_UPLOADS.variants()["page"],
    "drawn pages": TYPICAL_UPLOADS.variants()["drawn"],
}
OF_SCREENSHOTS: Final[Mapping[str, Degradation | Mixture]] = {
    "screenshots, PNG": Degradation(reduction="area"),
    "screenshots, JPEG 85": Degradation(reduction="area", jpeg=85),
}


class Served(NamedTuple):
    """How `auto` answers an upload: losses and areas at each α, and the upscaler's name."""

    losses: tuple[float, ...]
    areas: tuple[float, ...]
    refused: bool
    upscaler: str
    ratio: float


def served(pair: Pair, found: Found, upscaler: str, precision: str) -> Served:
    """Answer an upload from the shipped calibration of an upscaler."""
    height, width = pair.y.shape[:2]
    subject = ApplicableCalibration.from_calibration(
        calibration(f"{upscaler}-{precision}"), None, pair.features, shape=(height, width)
    )
    refused = subject.why_not is not None
    limits = [0.0 if refused else subject.curve.threshold(alpha) for alpha in ALPHAS]
    return Served(
        tuple(map(found.loss, limits)),
        tuple(map(found.area, limits)),
        refused,
        upscaler,
        found.ratio,
    )


@cache
def calibration(name: str) -> Calibration:
    """The shipped calibration of this name."""
    return shipped_calibration(name)


def pieces(folder: Path, target: Path) -> list[Path]:
    """The screenshots of a folder, cut into squares, as files."""
    files = []
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("page-*.webp")):
        whole = Image.open(path).convert("RGB")
        for top in range(0, whole.height - SIDE + 1, SIDE):
            for left in range(0, whole.width - SIDE + 1, SIDE):
                out = io.BytesIO()
                whole.crop((left, top, left + SIDE, top + SIDE)).save(out, "PNG")
                files.append(target / f"{path.stem}-{left}-{top}.png")
                files[-1].write_bytes(out.getvalue())
    return files


def row(kind: str, answers: Sequence[Served]) -> tuple[str, ...]:
    """A line of the table."""
    cells = []
    for place, alpha in enumerate(ALPHAS):
        losses = np.array([one.losses[place] for one in answers])
        error = losses.std(ddof=1) / np.sqrt(len(losses)) if len(losses) > 1 else float("nan")
        area = np.mean([one.areas[place] for one in answers])
        broken = " !" if losses.mean() - 2 * error > alpha else ""
        cells.append(f"{losses.mean():.3f} ± {error:.3f} / {area:.3f}{broken}")
    by = Counter(one.upscaler for one in answers)
    refused = float(np.mean([one.refused for one in answers]))
    ratio = np.mean([one.ratio for one in answers])
    names = ", ".join(f"{name} {count}" for name, count in by.most_common())
    return (kind, str(len(answers)), *cells, f"{ratio:.3f}", f"{refused:.0%}", names)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-auto")
    given = parser.parse_args()
    by_name: dict[str, Candidate] = {
        one.name: one for one in candidates(given.precision, given.keep)
    }
    photographs = [Path(files.paths["y"]) for files in find_in(given.folder)][:: given.every]
    screenshots = pieces(SCREENSHOTS, given.keep / "screenshots")
    rows = []
    with asyncio.Runner() as runner:
        for files, kinds in ((photographs, KINDS), (screenshots, OF_SCREENSHOTS)):
            for kind, made_by in kinds.items():
                answers = []
                first = next(iter(by_name.values()))
                for pair in pairs_of(files, made_by, first.pipeline):
                    name = routed(DEFAULT_ROUTING, pair.features.kind.name)
                    pairs = found_of(iter([pair]), [by_name[name]], given.keep, runner)
                    answers += [
                        served(pair, found[name], name, given.precision) for pair, found in pairs
                    ]
                rows.append(row(kind, answers))
    levels = [f"loss / area at α = {alpha:g}" for alpha in ALPHAS]
    print_table(("upload", "n", *levels, "error over plain's", "no promise", "answered by"), rows)


if __name__ == "__main__":
    main()
