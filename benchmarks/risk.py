"""Does a shipped calibration keep its promise? `python -m benchmarks.risk DIR --upscaler NAME`.

DIR holds high-resolution photographs that had no part in the calibration nor in the fit of σ (only
Y). Of each an input is made, saved as a file of each kind of upload, decoded and answered as the
service answers it, from the curve of its class. For each kind and each α: the mean over the spots
of the largest error in the mask with its standard error, the trusted area, and the share of uploads
that were refused a promise; then the same by class, for spots at borders and inside, and the area
at which the mean loss of these very uploads is α (`equal`), by which scores compare. `!`: broken,
above α by more than two standard errors although fewer than nine of ten were refused. `--side`
judges the middle of each photograph, at most so many pixels wide and high.

The last table is about whole pictures, by class: the share that is bad, that is accepted without a
look, and that is both (at most δ); then of all of them as one batch, with the share of bad ones
among the accepted.

`--further` takes kinds that were not thought of when classes were made (`benchmarks.further`), and
prints how many of each group are broken; `--robust` names another Γ. `--batch 6` answers each as
one of a batch with six others of its kind, `--mixed` of any kinds. `--keep DIR` keeps what was
measured: a stopped run continues, and another calibration of the same pipeline is judged at once.
`--measure` only measures, `--kind` names kinds of uploads.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.further import GROUPS, SHOWN
from benchmarks.photos import photo_folder
from benchmarks.ship import under_which
from benchmarks.table import print_table
from benchmarks.uploads import SCALE, UPLOADS
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibrating.packing import npz_bytes
from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import LEVELS
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.conformal import LossCurve, fidelity
from trustscale_server.conformal.loss_curve import LossCurves
from trustscale_server.conformal.review import TOLERANCES, accepted_of_batch, high_sigma, off_shares
from trustscale_server.conformal.step_curve import StepCurve
from trustscale_server.images.compression import Compression
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.kinds.classes import Kind
from trustscale_server.kinds.degrade import crop_to_multiple
from trustscale_server.kinds.features import UPLOAD, InputFeatures, look_at
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.spec import TRUST_LAYER_VERSION, MeasurementSpec
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.serving.batch import weighed
from trustscale_server.serving.review import Review, review_of
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

ALPHAS = tuple(LEVELS.values())
MOST_REFUSED = 0.9
FURTHER: Final = {kind: make for kinds in GROUPS.values() for kind, make in kinds.items()}
KINDS: Final = {**UPLOADS, **FURTHER}


class Measured(NamedTuple):
    """An upload: what is known of it, its spots' loss curves, and quantiles of σ, float32 [1001].

    at_border: which of the spots touch the border. off, high_sigma: of the whole picture.
    """

    features: InputFeatures
    mean_log_sigma: float
    spots: LossCurves
    at_border: NDArray[np.bool_]
    quantiles: NDArray[np.float32]
    off: tuple[float, ...]
    high_sigma: tuple[float, float]


class Seen(NamedTuple):
    """One answered upload: its class, losses of its spots at each α, and areas."""

    measured: Measured
    input_class: str
    refused: bool
    losses: list[NDArray[np.float64]]
    areas: list[float]
    review: Review
    is_bad: bool


def shown(truth: RGB, kind: str) -> RGB:
    """The photograph that an upload of this kind shows."""
    if kind not in SHOWN:
        return truth
    return np.asarray(SHOWN[kind](Image.fromarray(truth)).convert("RGB"))


def uploaded(truth: RGB, kind: str) -> Source:
    """One photograph as a file of some kind, decoded and looked at."""
    upload = decode(KINDS[kind](Image.fromarray(truth)), PAIR_LIMITS)
    return Source(upload.rgb, look_at(upload.rgb, upload.compression))


async def measured(
    upscaler: EmbeddedUpscaler, pipeline: MeasurementSpec, truth: RGB, source: Source
) -> bytes:
    """Answer an upload; what is kept of it."""
    found = await measure(upscaler, source, pipeline, zlib.crc32(source.rgb.tobytes()))
    error = fidelity.error(truth, found.prediction, pipeline.fidelity)
    height, width = error.shape
    windows = pipeline.fidelity.windows(height, width)
    spots = LossCurves.from_curves(
        LossCurve.from_maps(found.sigma[one], error[one]) for one in windows
    )
    return npz_bytes(
        mean_log_sigma=found.mean_log_sigma,
        levels=spots.levels,
        errors=spots.errors,
        lengths=spots.lengths,
        at_border=[
            rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
            for rows, columns in windows
        ],
        quantiles=np.quantile(found.sigma, np.linspace(0, 1, 1001)).astype(np.float32),
        off=off_shares(error),
        high_sigma=high_sigma(found.sigma),
    )


def read(path: Path, features: InputFeatures) -> Measured:
    """What `measured` gave."""
    with np.load(path) as arrays:
        return Measured(
            features,
            float(arrays["mean_log_sigma"]),
            LossCurves(arrays["levels"], arrays["errors"], arrays["lengths"]),
            arrays["at_border"],
            arrays["quantiles"],
            tuple(arrays["off"].tolist()),
            tuple(arrays["high_sigma"].tolist()),
        )


def _under(calibration: Calibration, robust: float | None) -> Calibration:
    """The calibration with this Γ; None: its own."""
    guarantee = calibration.subset(None, None, robust).guarantee
    document = {**calibration.document, "guarantee": guarantee.model_dump(mode="json")}
    return replace(calibration, document=document)


def answered(
    calibration: Calibration,
    found: Measured,
    size: tuple[int, int],
    batch: StepCurve | None = None,
) -> Seen:
    """As the service answers from this calibration, perhaps to one of a batch with this curve."""
    subject = ApplicableCalibration.from_calibration(calibration, None, found.features, shape=size)
    curve = subject.curve if batch is None else subject.curve.at_least(batch)
    thresholds = [curve.threshold(alpha) for alpha in ALPHAS]
    why_not = subject.why_not
    review = review_of(subject.subset, found.high_sigma, why_not=why_not)
    if review is None:
        raise SystemExit("The calibration kept nothing of whole pictures.")
    return Seen(
        found,
        subject.input_class or "all",
        why_not is not None,
        [found.spots.losses_below(t) for t in thresholds],
        [float((found.quantiles < t).mean()) for t in thresholds],
        review,
        found.off[TOLERANCES.index(review.tolerance)] > review.share,
    )


def answers(
    calibration: Calibration,
    uploads: Iterable[tuple[str, Measured, tuple[int, int]]],
    batch: int | None,
    *,
    mixed: bool,
) -> Iterator[tuple[str, Seen]]:
    """Each upload as it is answered, perhaps as one of a batch of so many others.

    They are of other photographs: of its kind, or `mixed`, each of a kind at random.
    """
    of_kind: dict[str, list[tuple[Measured, tuple[int, int]]]] = defaultdict(list)
    for kind, found, size in uploads:
        of_kind[kind].append((found, size))
    for kind, alike in of_kind.items():
        random = np.random.default_rng(zlib.crc32(kind.encode()))
        curves: list[StepCurve | None] = [None, None]
        for half in range(2 if batch else 0):
            # Of every other photograph, of which the answered one is none.
            folder = of_kind.values() if mixed else [alike]
            others = [found for of_one in folder for found, _ in of_one[1 - half :: 2]]
            order = random.permutation(len(others)) if mixed else range(len(others))
            numbers = [others[place].features.described for place in order[:batch]]
            curves[half] = weighed(np.array(numbers, np.float32), calibration.everything).curve
        for place, (found, size) in enumerate(alike):
            yield kind, answered(calibration, found, size, curves[place % 2])


def of_pictures(name: str, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Which whole pictures were bad and accepted, one by one and as a batch."""
    bad = np.array([one.is_bad for one in seen])
    alone = np.array([not one.review.needs_review for one in seen])
    batch = accepted_of_batch([one.review.p_value for one in seen], seen[0].review.delta)
    together = np.array(batch) & ~np.array([one.refused for one in seen])
    among = f"{bad[together].mean():.2f}" if together.any() else "-"
    shares = (bad.mean(), alone.mean(), (alone & bad).mean(), together.mean())
    return (name, f"{len(seen)}", *(f"{share:.2f}" for share in shares), among)


def row(name: str, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Loss ± its standard error and area, at each α."""
    cells = []
    refused = float(np.mean([one.refused for one in seen]))
    for place in range(len(ALPHAS)):
        loss, error = mean_loss([one.losses[place] for one in seen])
        area = np.mean([one.areas[place] for one in seen])
        broken = " !" if is_broken(seen, place) else ""
        cells.append(f"{loss:.3f} ± {error:.3f} / {area:.2f}{broken}")
    equal = " / ".join(f"{area_at(seen, alpha):.2f}" for alpha in ALPHAS)
    return (name, f"{len(seen)}", f"{refused:.0%}", *cells, equal)


def mean_loss(losses: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """The mean over pictures of the mean over their spots, and its standard error."""
    means = np.array([one.mean() for one in losses if len(one)])
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else float("nan")
    return float(means.mean()) if len(means) else float("nan"), float(error)


def area_at(seen: Sequence[Seen], alpha: float) -> float:
    """The area where the mean loss of these uploads is α."""
    low, high = 0.0, float(max(one.measured.quantiles[-1] for one in seen)) * 1.01
    for _ in range(30):
        middle = (low + high) / 2
        loss, _ = mean_loss([one.measured.spots.losses_below(middle) for one in seen])
        low, high = (middle, high) if loss <= alpha else (low, middle)
    return float(np.mean([(one.measured.quantiles < low).mean() for one in seen]))


def is_broken(seen: Sequence[Seen], place: int) -> bool:
    """Whether the mean loss is above α by two standard errors, in silence."""
    loss, error = mean_loss([one.losses[place] for one in seen])
    refused = np.mean([one.refused for one in seen])
    return loss - 2 * error > ALPHAS[place] and float(refused) < MOST_REFUSED


def of_groups(kinds: Mapping[str, Sequence[Seen]]) -> list[tuple[str, ...]]:
    """How many kinds of each group are broken, and their mean loss and area at the default α."""
    rows = []
    for group, makers in GROUPS.items():
        of_group = [kinds[kind] for kind in makers if kind in kinds]
        if not of_group:
            continue
        counts = [sum(is_broken(seen, k) for seen in of_group) for k in range(len(ALPHAS))]
        every = [one for seen in of_group for one in seen]
        loss, _ = mean_loss([one.losses[1] for one in every])
        area = np.mean([one.areas[1] for one in every])
        shown = f"{loss:.3f} / {area:.2f}"
        rows.append((group, str(len(of_group)), *map(str, counts), shown))
    return rows


def of_places(seen: Sequence[Seen]) -> list[tuple[str, ...]]:
    """The losses of spots at borders and inside, at each α."""
    rows = []
    for name, wanted in (("at the border", True), ("inside", False)):
        cells = []
        for place in range(len(ALPHAS)):
            losses = [o.losses[place][o.measured.at_border == wanted] for o in seen]
            loss, error = mean_loss(losses)
            cells.append(f"{loss:.3f} ± {error:.3f}")
        rows.append((name, *cells))
    return rows


def all_measured(
    photographs: Sequence[Path],
    upscaler: EmbeddedUpscaler,
    pipeline: MeasurementSpec,
    keep: Path,
    kinds: Sequence[str],
    side: int | None = None,
) -> Iterator[tuple[str, Measured, tuple[int, int]]]:
    """Kind, what was measured, and (height, width) of every photograph as each of these kinds.

    Kept are the features of each upload under each rule, and the rest under all that it depends on.
    """
    rule = f"{UPLOAD.replace('/', '-')}-{TRUST_LAYER_VERSION}"
    with asyncio.Runner() as runner:
        for path in photographs:
            truth = crop_to_multiple(decode(path.read_bytes(), PAIR_LIMITS).rgb, SCALE)
            if side is not None:
                top, left = (max(0, length - side) // 2 for length in truth.shape[:2])
                truth = np.ascontiguousarray(truth[top : top + side, left : left + side])
            for kind in KINDS:
                if kind not in kinds:
                    continue
                name = f"{path.stem}-{side or 'whole'}-{zlib.crc32(kind.encode()):08x}"
                looked_at = keep / f"{rule}-{name}.json"
                if not looked_at.exists():
                    write(looked_at, json.dumps(asdict(uploaded(truth, kind).features)).encode())
                features = InputFeatures(**json.loads(looked_at.read_bytes()))
                if not features.described:  # kept before they were
                    features = uploaded(truth, kind).features
                    write(looked_at, json.dumps(asdict(features)).encode())
                features = replace(
                    features,
                    compression=Compression(*features.compression),
                    kind=Kind(*features.kind),
                )
                under = under_which(pipeline, features).model_dump_json()
                kept = keep / f"{hashlib.sha256(under.encode()).hexdigest()[:12]}-{name}.npz"
                if not kept.exists():
                    source = uploaded(truth, kind)
                    write(
                        kept, runner.run(measured(upscaler, pipeline, shown(truth, kind), source))
                    )
                yield kind, read(kept, features), truth.shape[:2]


def write(path: Path, data: bytes) -> None:
    """All of a file or nothing."""
    path.with_suffix(".part").write_bytes(data)
    path.with_suffix(".part").replace(path)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=photo_folder)
    parser.add_argument("--upscaler", choices=list(SHIPPED_MODELS), default="span-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--calibration", type=Path, help="another than the shipped one")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--first", type=int, nargs="+", default=[0], help="from this one on")
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-risk")
    parser.add_argument("--measure", action="store_true", help="measure, and judge nothing yet")
    parser.add_argument("--side", type=int, help="of the middle that is taken; default: all")
    parser.add_argument("--further", action="store_true", help="kinds that nobody named before")
    parser.add_argument(
        "--batch", type=int, help="each belongs to a batch of so many others of its kind"
    )
    parser.add_argument("--mixed", action="store_true", help="... of any kinds, at random")
    parser.add_argument("--robust", type=float, help="Γ; default: the calibration's")
    parser.add_argument(
        "--kind", nargs="+", choices=list(KINDS), metavar="KIND", help="take these kinds alone"
    )
    given = parser.parse_args()
    given.kind = given.kind or list(FURTHER if given.further else UPLOADS)
    given.keep.mkdir(parents=True, exist_ok=True)
    upscaler = EmbeddedUpscaler(given.upscaler, given.upscaler, precision=given.precision)
    every = [Path(files.paths["y"]) for files in find_in(given.folder)]
    paths = [path for first in given.first for path in every[first :: given.every]]
    if given.measure:
        pipeline = CalibrationConfig().pipeline(upscaler)
        found = all_measured(paths, upscaler, pipeline, given.keep, given.kind, given.side)
        print(sum(1 for _ in found), "uploads")
        return
    if given.calibration is None:
        calibration = shipped_calibration(f"{given.upscaler}-{given.precision}")
    else:
        calibration = file.load(given.calibration.read_bytes())
    calibration = _under(calibration, given.robust)
    kinds, classes = defaultdict(list), defaultdict(list)
    every_upload = all_measured(
        paths, upscaler, calibration.pipeline, given.keep, given.kind, given.side
    )
    for kind, seen in answers(calibration, every_upload, given.batch, mixed=given.mixed):
        kinds[kind].append(seen)
        classes[seen.input_class].append(seen)
    bound = calibration.everything.bound
    print(
        f"\n{calibration.id}, {calibration.n} scenes, errors up to {bound:g}\n"
        "mean over spots of the worst error in the mask ± standard error / trusted area\n"
    )
    levels = [f"α = {alpha:g}" for alpha in ALPHAS]
    head = ("images", "refused", *levels, "equal")
    print_table(("upload", *head), [row(kind, kinds[kind]) for kind in given.kind])
    print()
    if given.further:
        levels_of = ("kinds", *(f"broken at {alpha:g}" for alpha in ALPHAS), "loss / area at 0.05")
        print_table(("group", *levels_of), of_groups(kinds))
        print()
    print_table(("class", *head), [row(name, classes[name]) for name in sorted(classes)])
    print()
    print_table(("spots", *levels), of_places([one for seen in kinds.values() for one in seen]))
    print()
    print_table(
        ("class", "images", "bad", "accepted", "both", "of a batch", "bad among these"),
        [of_pictures(name, classes[name]) for name in sorted(classes)],
    )


if __name__ == "__main__":
    main()
