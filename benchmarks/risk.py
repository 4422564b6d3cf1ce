"""Does a shipped calibration keep its promise? `python -m benchmarks.risk DIR --upscaler NAME`.

DIR holds high-resolution photographs that had no part in the calibration nor in the fit of σ (only
Y). Of each an input is made, saved as a file of each kind of upload, decoded and answered as the
service answers it, from the curve of its class. For each kind and each α: the mean of the largest
error in the mask with its standard error, the trusted area, and the share of uploads that were
warned of; then the same by class. `!`: broken, above α by more than two standard errors although
fewer than nine of ten were warned of.

`--keep FILE` keeps what was measured, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageFilter
from PIL.Image import Resampling

from app.calibration import file
from app.calibration.active import shipped_calibrations
from app.calibration.intake import find_in
from app.calibration.record import Calibration
from app.conformal import Staircase, fidelity
from app.images.decode import PAIR_LIMITS, decode
from app.images.degrade import crop_to_multiple
from app.images.facts import look_at
from app.sampling.measure import measure
from app.sampling.pipeline import differences
from app.serving.subject import Subject
from app.upscalers.base import RGB, Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.shipped import SHIPPED
from app.upscalers.witness import FaithfulWitness
from benchmarks.table import print_table

ALPHAS = (0.025, 0.05, 0.075, 0.1, 0.15)
JUDGED = (0.05, 0.1)  # where a row is called broken
SCALE = 4
MOST_WARNED = 0.9


def saved(image: Image.Image, form: str, quality: int | None = None, **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    quality_of = {} if quality is None else {"quality": quality}
    image.save(out, form, **quality_of, **options)
    return out.getvalue()


def reduced(truth: Image.Image, factor: float = 1, by: Resampling = Resampling.BICUBIC) -> Any:
    """X by antialiased reduction, or once more by the factor and enlarged again."""
    size = truth.width // SCALE, truth.height // SCALE
    if factor == 1:
        return truth.resize(size, by)
    small = truth.resize((round(size[0] / factor), round(size[1] / factor)), Resampling.BICUBIC)
    return small.resize(size, by)


def noisy(image: Image.Image, level: float) -> Image.Image:
    """With Gaussian noise of so many grey levels, the same for the same picture."""
    pixels = np.asarray(image)
    noise = np.random.default_rng(zlib.crc32(pixels.tobytes())).normal(0, level, pixels.shape)
    return Image.fromarray(np.rint(np.clip(pixels + noise, 0, 255)).astype(np.uint8))


def through(image: Image.Image, form: str, quality: int) -> Image.Image:
    """After a round trip through a file."""
    return Image.open(io.BytesIO(saved(image, form, quality))).convert("RGB")


def phone(truth: Image.Image) -> bytes:
    """Noise, its removal, sharpening and a JPEG, as a phone does it."""
    image = noisy(reduced(truth), 4).filter(ImageFilter.MedianFilter(3))
    return saved(image.filter(ImageFilter.UnsharpMask(1.2, 110, 2)), "JPEG", 93)


UPLOADS: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG": lambda y: saved(reduced(y), "PNG"),
    "Lanczos": lambda y: saved(reduced(y, by=Resampling.LANCZOS), "PNG"),
    "area": lambda y: saved(reduced(y, by=Resampling.BOX), "PNG"),
    "nearest": lambda y: saved(reduced(y, by=Resampling.NEAREST), "PNG"),
    "noise 2": lambda y: saved(noisy(reduced(y), 2), "PNG"),
    "noise 5": lambda y: saved(noisy(reduced(y), 5), "PNG"),
    "sharpened": lambda y: saved(reduced(y).filter(ImageFilter.UnsharpMask(1, 60, 2)), "PNG"),
    **{f"JPEG {q}": lambda y, q=q: saved(reduced(y), "JPEG", q) for q in (95, 85, 75, 60, 50)},
    "JPEG 60, then 92": lambda y: saved(through(reduced(y), "JPEG", 60), "JPEG", 92),
    "JPEG 92, then 60": lambda y: saved(through(reduced(y), "JPEG", 92), "JPEG", 60),
    "JPEG 75, cut, then PNG": lambda y: saved(
        ImageChops.offset(through(ImageChops.offset(reduced(y), 3, 5), "JPEG", 75), -3, -5), "PNG"
    ),
    "JPEG 60, then WebP 90": lambda y: saved(through(reduced(y), "JPEG", 60), "WEBP", 90),
    **{f"enlarged ×{f}": lambda y, f=f: saved(reduced(y, f), "PNG") for f in (1.25, 1.5, 2)},
    "enlarged ×1.5, bilinear": lambda y: saved(reduced(y, 1.5, Resampling.BILINEAR), "PNG"),
    "enlarged ×2, JPEG 80": lambda y: saved(reduced(y, 2), "JPEG", 80),
    "enlarged ×1.5, JPEG 90": lambda y: saved(reduced(y, 1.5), "JPEG", 90),
    "blurred, sd 1": lambda y: saved(reduced(y.filter(ImageFilter.GaussianBlur(SCALE))), "PNG"),
    "blurred, sd 0.7, JPEG 85": lambda y: saved(
        reduced(y.filter(ImageFilter.GaussianBlur(0.7 * SCALE))), "JPEG", 85
    ),
    **{f"WebP {q}": lambda y, q=q: saved(reduced(y), "WEBP", q) for q in (90, 75, 50, 30, 10)},
    **{f"AVIF {q}": lambda y, q=q: saved(reduced(y), "AVIF", q) for q in (80, 50)},
    "GIF": lambda y: saved(reduced(y), "GIF"),
    "phone": phone,
}


class Seen(NamedTuple):
    """One answered upload: what it was, and loss, counted up to c, and area at each α."""

    kind: str
    input_class: str
    warned: bool
    losses: list[float]
    areas: list[float]


async def answered(
    upscaler: EmbeddedUpscaler, calibration: Calibration, truth: RGB, kind: str
) -> Seen:
    """Upload one photograph as a file of some kind."""
    pipeline = calibration.pipeline
    upload = decode(UPLOADS[kind](Image.fromarray(truth)), PAIR_LIMITS)
    facts = look_at(upload.rgb, upload.compression)
    source = Source(upload.rgb, facts)
    measured = await measure(upscaler, source, pipeline, zlib.crc32(upload.rgb.tobytes()))
    error = fidelity.error(truth, measured.prediction, pipeline.fidelity)
    stairs = Staircase.from_maps(measured.sigma, error)
    subject = Subject.of(calibration, None, facts, size=truth.shape[:2])
    typicality = subject.part.typicality(measured.mean_log_sigma, facts)
    thresholds = [subject.part.curve.threshold(alpha) for alpha in ALPHAS]
    return Seen(
        kind,
        subject.input_class or "all",
        bool(not subject.is_covered or typicality <= subject.part.unusual),
        [float(stairs.loss_below(t)) for t in thresholds],
        [float((measured.sigma < t).mean()) for t in thresholds],
    )


def row(name: str, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Loss ± its standard error and area, at each α."""
    cells = []
    warned = float(np.mean([one.warned for one in seen]))
    for place, alpha in enumerate(ALPHAS):
        loss = np.array([one.losses[place] for one in seen])
        error = loss.std(ddof=1) / np.sqrt(len(loss)) if len(loss) > 1 else float("nan")
        area = np.mean([one.areas[place] for one in seen])
        is_broken = loss.mean() - 2 * error > alpha and warned < MOST_WARNED and alpha in JUDGED
        cells.append(f"{loss.mean():.3f} ± {error:.3f} / {area:.2f}{' !' if is_broken else ''}")
    return (name, f"{len(seen)}", f"{warned:.0%}", *cells)


def measured(
    photographs: Sequence[Path], calibration: Calibration, upscaler: EmbeddedUpscaler, keep: Path
) -> list[Seen]:
    """Every photograph as every kind of upload, and what a run before has kept."""
    known = {}
    if keep.exists():
        for line in keep.read_text().splitlines():
            key, seen = json.loads(line)
            known[tuple(key)] = Seen(*seen)
    with keep.open("a") as kept, asyncio.Runner() as runner:
        for path in photographs:
            truth = crop_to_multiple(decode(path.read_bytes(), PAIR_LIMITS).rgb, SCALE)
            for kind in UPLOADS:
                key = (calibration.id, path.stem, kind)
                if key not in known:
                    known[key] = runner.run(answered(upscaler, calibration, truth, kind))
                    kept.write(json.dumps([key, known[key]]) + "\n")
                    kept.flush()
    return [seen for (made, _, _), seen in known.items() if made == calibration.id]


def shipped_for(upscaler: EmbeddedUpscaler) -> Calibration:
    """The calibration that a fresh installation serves this upscaler from."""
    for calibration in shipped_calibrations():
        if not differences(calibration.pipeline, upscaler):
            return calibration
    sys.exit(f"no calibration is shipped for {upscaler.name}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--upscaler", choices=list(SHIPPED), default="span-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--calibration", type=Path, help="another than the shipped one")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--keep", type=Path, default=Path("/dev/null"))
    given = parser.parse_args()
    witness = FaithfulWitness(given.precision)
    make = partial(EmbeddedUpscaler, given.upscaler, given.upscaler, precision=given.precision)
    upscaler = make(witness=witness)
    if given.calibration is None:
        calibration = shipped_for(upscaler)
    else:
        calibration = file.load(given.calibration.read_bytes())
    paths = [Path(str(files.y)) for files in find_in(given.folder)][:: given.every]
    seen = measured(paths, calibration, upscaler, given.keep)
    print(f"\n{calibration.id}, {calibration.n} scenes, errors up to {calibration.bound:g}")
    print("mean worst error in the mask ± standard error / trusted area\n")
    kinds, classes = defaultdict(list), defaultdict(list)
    for one in seen:
        kinds[one.kind].append(one)
        classes[one.input_class].append(one)
    head = ("images", "warned", *(f"α = {alpha:g}" for alpha in ALPHAS))
    print_table(("upload", *head), [row(kind, kinds[kind]) for kind in UPLOADS if kinds[kind]])
    print()
    print_table(("class", *head), [row(name, classes[name]) for name in sorted(classes)])


if __name__ == "__main__":
    main()
