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

`--further` takes kinds that were not thought of when classes were made. `--keep DIR` keeps what was
measured: a stopped run continues, and another calibration of the same pipeline is judged at once.
`--measure` only measures, `--kind` names kinds of uploads.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from PIL.Image import Resampling
from scipy import ndimage
from skimage.restoration import denoise_bilateral, denoise_nl_means, denoise_tv_chambolle

from benchmarks.ship import under_which
from benchmarks.table import print_table
from trustscale_server.calibration import record
from trustscale_server.calibration.active import shipped_calibration
from trustscale_server.calibration.config import CalibrationConfig
from trustscale_server.calibration.guarantee import LEVELS
from trustscale_server.calibration.intake import find_in
from trustscale_server.calibration.measure import npz_bytes
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal import LossCurve, fidelity
from trustscale_server.conformal.curve import (
    TOLERANCES,
    LossCurves,
    accepted_of_batch,
    high_sigma,
    off_shares,
)
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.degrade import crop_to_multiple
from trustscale_server.images.description import UPLOAD, Compression, InputFeatures, Kind, look_at
from trustscale_server.sampling.pipeline import TRUST_LAYER_VERSION, Pipeline, measure
from trustscale_server.serving.answer import ApplicableCalibration, Review, review_of
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.embedded import SHIPPED, EmbeddedUpscaler

ALPHAS = tuple(LEVELS.values())
SCALE = 4
MOST_REFUSED = 0.9


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


def smoothed(truth: Image.Image, by: Callable[..., Any], **options: Any) -> Image.Image:
    """With noise, and freed of it by a filter of scikit-image."""
    noise_free = by(np.asarray(noisy(reduced(truth), 4)) / 255, channel_axis=2, **options)
    return Image.fromarray(np.rint(255 * np.clip(noise_free, 0, 1)).astype(np.uint8))


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
    "enlarged ×2, bilinear, JPEG 90": lambda y: saved(
        reduced(y, 2, Resampling.BILINEAR), "JPEG", 90
    ),
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
    "noise 3, median": lambda y: saved(
        noisy(reduced(y), 3).filter(ImageFilter.MedianFilter(3)), "PNG"
    ),
    "noise 4, total variation": lambda y: saved(
        smoothed(y, denoise_tv_chambolle, weight=0.06), "PNG"
    ),
    "noise 4, non-local means, sharpened, JPEG 90": lambda y: saved(
        smoothed(y, denoise_nl_means, sigma=4 / 255, h=3.2 / 255, patch_distance=6).filter(
            ImageFilter.UnsharpMask(1, 100, 0)
        ),
        "JPEG",
        90,
    ),
}


def png(image: Image.Image) -> bytes:
    """Saved without loss."""
    return saved(image, "PNG")


def moved(image: Image.Image, length: int, *, down: bool) -> Image.Image:
    """Blurred by a straight movement over so many pixels."""
    size = (1, length) if down else (length, 1)
    blurred = ndimage.uniform_filter(np.asarray(image, np.float32), (*size, 1), mode="nearest")
    return Image.fromarray(np.rint(blurred).astype(np.uint8))


def in_part(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """With a quarter of its area changed."""
    made, other = image.copy(), change(image)
    box = (image.width // 2, image.height // 4, image.width, 3 * image.height // 4)
    made.paste(other.crop(box), box[:2])
    return made


def captioned(image: Image.Image) -> Image.Image:
    """With a sharp line of text near its foot."""
    made = image.copy()
    draw = ImageDraw.Draw(made)
    top = made.height * 3 // 4
    draw.rectangle((0, top, made.width, top + 18), fill="black")
    draw.text((6, top + 3), "Breaking: it was not so at all", fill="white")
    return made


def subsampled(image: Image.Image) -> Image.Image:
    """With its chroma at half the size, as video has it."""
    luma, blue, red = image.convert("YCbCr").split()
    half = [c.resize((c.width // 2, c.height // 2), Resampling.BOX) for c in (blue, red)]
    back = [c.resize(luma.size, Resampling.BILINEAR) for c in half]
    return Image.merge("YCbCr", (luma, *back)).convert("RGB")


def demosaiced(image: Image.Image) -> Image.Image:
    """Through the pattern of a camera's sensor, interpolated bilinearly."""
    pixels = np.asarray(image, np.float32)
    known = np.zeros_like(pixels)
    known[::2, ::2, 0] = known[1::2, 1::2, 2] = known[::2, 1::2, 1] = known[1::2, ::2, 1] = 1
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)[..., np.newaxis]
    total, weight = (
        ndimage.convolve(plane, kernel, mode="mirror") for plane in (pixels * known, known)
    )
    return Image.fromarray(np.rint(np.where(known, pixels, total / weight)).astype(np.uint8))


def interlaced(image: Image.Image) -> Image.Image:
    """Every second line interpolated from its neighbours."""
    pixels = np.asarray(image, np.float32).copy()
    pixels[1:-1:2] = (pixels[:-2:2] + pixels[2::2])[: len(pixels[1:-1:2])] / 2
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


FURTHER: dict[str, Callable[[Image.Image], bytes]] = {
    **{f"enlarged ×{f}": lambda y, f=f: png(reduced(y, f)) for f in (3, 4, 8)},
    "enlarged ×3, JPEG 80": lambda y: saved(reduced(y, 3), "JPEG", 80),
    "a quarter enlarged ×3": lambda y: png(in_part(reduced(y), lambda _: reduced(y, 3))),
    "a quarter enlarged ×2, JPEG 85": lambda y: saved(
        in_part(reduced(y), lambda _: reduced(y, 2)), "JPEG", 85
    ),
    "a caption over ×2": lambda y: png(captioned(reduced(y, 2))),
    **{
        f"moved by {n}": lambda y, n=n: png(moved(reduced(y), n, down=n % 2 == 0))
        for n in (2, 3, 5)
    },
    **{f"WebP {q}, then PNG": lambda y, q=q: png(through(reduced(y), "WEBP", q)) for q in (25, 80)},
    "AVIF 60, then PNG": lambda y: png(through(reduced(y), "AVIF", 60)),
    "JPEG 85, then PNG": lambda y: png(through(reduced(y), "JPEG", 85)),
    "chroma at half the size": lambda y: png(subsampled(reduced(y))),
    "JPEG 40, halved, then PNG": lambda y: png(
        through(y.resize((y.width // 2, y.height // 2)), "JPEG", 40).resize(
            (y.width // SCALE, y.height // SCALE), Resampling.BICUBIC
        )
    ),
    "WebP 30, then JPEG 90": lambda y: saved(through(reduced(y), "WEBP", 30), "JPEG", 90),
    "AVIF 40, then JPEG 85": lambda y: saved(through(reduced(y), "AVIF", 40), "JPEG", 85),
    "demosaiced": lambda y: png(demosaiced(reduced(y))),
    "interlaced": lambda y: png(interlaced(reduced(y))),
    "non-local means": lambda y: png(
        smoothed(y, denoise_nl_means, sigma=4 / 255, h=3.2 / 255, patch_distance=6)
    ),
    "noise 4, bilateral": lambda y: png(smoothed(y, denoise_bilateral, sigma_color=0.06)),
    "noise 12": lambda y: png(noisy(reduced(y), 12)),
    "16 colours": lambda y: png(reduced(y).quantize(16).convert("RGB")),
    "sharpened twice": lambda y: png(reduced(y).filter(ImageFilter.UnsharpMask(2, 200, 0))),
    "out of focus": lambda y: png(reduced(y).filter(ImageFilter.BoxBlur(1.5))),
}
"""Kinds that no calibration was made for on purpose, or in another way."""

KINDS: Final = {**UPLOADS, **FURTHER}


class Measured(NamedTuple):
    """An upload: what is known of it, its spots' loss curves, and quantiles of σ, float32 [1001].

    at_border: which of the spots touch the border. off, high_sigma: of the whole picture.
    """

    facts: InputFeatures
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


def uploaded(truth: RGB, kind: str) -> Source:
    """One photograph as a file of some kind, decoded and looked at."""
    upload = decode(KINDS[kind](Image.fromarray(truth)), PAIR_LIMITS)
    return Source(upload.rgb, look_at(upload.rgb, upload.compression))


async def measured(
    upscaler: EmbeddedUpscaler, pipeline: Pipeline, truth: RGB, source: Source
) -> bytes:
    """Answer an upload; what is kept of it."""
    found = await measure(upscaler, source, pipeline, zlib.crc32(source.rgb.tobytes()))
    error = fidelity.error(truth, found.prediction, pipeline.fidelity)
    height, width = error.shape
    windows = pipeline.fidelity.windows(height, width)
    spots = LossCurves.of(LossCurve.from_maps(found.sigma[one], error[one]) for one in windows)
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


def read(path: Path, facts: InputFeatures) -> Measured:
    """What `measured` gave."""
    with np.load(path) as arrays:
        return Measured(
            facts,
            float(arrays["mean_log_sigma"]),
            LossCurves(arrays["levels"], arrays["errors"], arrays["lengths"]),
            arrays["at_border"],
            arrays["quantiles"],
            tuple(arrays["off"].tolist()),
            tuple(arrays["high_sigma"].tolist()),
        )


def answered(calibration: Calibration, found: Measured, size: tuple[int, int]) -> Seen:
    """As the service answers from this calibration."""
    subject = ApplicableCalibration.of(calibration, None, found.facts, size=size)
    typicality = subject.partition.report.typicality(found.mean_log_sigma, found.facts)
    thresholds = [subject.partition.curve.threshold(alpha) for alpha in ALPHAS]
    why_not = subject.why_not(typicality)
    review = review_of(
        subject.partition, found.high_sigma, is_covered=subject.is_covered, why_not=why_not
    )
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


def of_pictures(name: str, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Which whole pictures were bad and accepted, one by one and as a batch."""
    bad = np.array([one.is_bad for one in seen])
    alone = np.array([one.review.accept for one in seen])
    batch = accepted_of_batch([one.review.p_value for one in seen], seen[0].review.delta)
    together = np.array(batch) & ~np.array([one.refused for one in seen])
    among = f"{bad[together].mean():.2f}" if together.any() else "-"
    shares = (bad.mean(), alone.mean(), (alone & bad).mean(), together.mean())
    return (name, f"{len(seen)}", *(f"{share:.2f}" for share in shares), among)


def row(name: str, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Loss ± its standard error and area, at each α."""
    cells = []
    refused = float(np.mean([one.refused for one in seen]))
    for place, alpha in enumerate(ALPHAS):
        loss, error = mean_loss([one.losses[place] for one in seen])
        area = np.mean([one.areas[place] for one in seen])
        is_broken = loss - 2 * error > alpha and refused < MOST_REFUSED
        cells.append(f"{loss:.3f} ± {error:.3f} / {area:.2f}{' !' if is_broken else ''}")
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
    pipeline: Pipeline,
    keep: Path,
    kinds: Sequence[str],
    side: int | None = None,
) -> Iterator[tuple[str, Measured, tuple[int, int]]]:
    """Kind, what was measured, and (height, width) of every photograph as each of these kinds.

    Kept are the facts of each upload under each rule, and the rest under all that it depends on.
    """
    rule = f"{UPLOAD.replace('/', '-')}-{TRUST_LAYER_VERSION}"
    with asyncio.Runner() as runner:
        for path in photographs:
            truth = crop_to_multiple(decode(path.read_bytes(), PAIR_LIMITS).rgb, SCALE)
            if side is not None:
                top, left = (max(0, length - side) // 2 for length in truth.shape[:2])
                truth = np.ascontiguousarray(truth[top : top + side, left : left + side])
            for number, kind in enumerate(KINDS):
                if kind not in kinds:
                    continue
                name = f"{path.stem}-{side or 'whole'}-{number:02}"
                looked_at = keep / f"{rule}-{name}.json"
                if not looked_at.exists():
                    write(looked_at, json.dumps(asdict(uploaded(truth, kind).facts)).encode())
                facts = InputFeatures(**json.loads(looked_at.read_bytes()))
                facts = replace(
                    facts, compression=Compression(*facts.compression), kind=Kind(*facts.kind)
                )
                under = under_which(pipeline, facts).model_dump_json()
                kept = keep / f"{hashlib.sha256(under.encode()).hexdigest()[:12]}-{name}.npz"
                if not kept.exists():
                    source = uploaded(truth, kind)
                    write(kept, runner.run(measured(upscaler, pipeline, truth, source)))
                yield kind, read(kept, facts), truth.shape[:2]


def write(path: Path, data: bytes) -> None:
    """All of a file or nothing."""
    path.with_suffix(".part").write_bytes(data)
    path.with_suffix(".part").replace(path)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--upscaler", choices=list(SHIPPED), default="span-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--calibration", type=Path, help="another than the shipped one")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    parser.add_argument("--first", type=int, nargs="+", default=[0], help="from this one on")
    parser.add_argument("--keep", type=Path, default=Path(gettempdir()) / "trustscale-risk")
    parser.add_argument("--measure", action="store_true", help="measure, and judge nothing yet")
    parser.add_argument("--side", type=int, help="of the middle that is taken; default: all")
    parser.add_argument("--further", action="store_true", help="kinds that nobody named before")
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), help="take these kinds alone")
    given = parser.parse_args()
    given.kind = given.kind or list(FURTHER if given.further else UPLOADS)
    given.keep.mkdir(parents=True, exist_ok=True)
    upscaler = EmbeddedUpscaler(given.upscaler, given.upscaler, precision=given.precision)
    every = [Path(str(files.y)) for files in find_in(given.folder)]
    paths = [path for first in given.first for path in every[first :: given.every]]
    if given.measure:
        pipeline = CalibrationConfig().pipeline(upscaler)
        found = all_measured(paths, upscaler, pipeline, given.keep, given.kind, given.side)
        print(sum(1 for _ in found), "uploads")
        return
    if given.calibration is None:
        calibration = shipped_calibration(f"{given.upscaler}-{given.precision}")
    else:
        calibration = record.load(given.calibration.read_bytes())
    kinds, classes = defaultdict(list), defaultdict(list)
    every_upload = all_measured(
        paths, upscaler, calibration.pipeline, given.keep, given.kind, given.side
    )
    for kind, found, size in every_upload:
        seen = answered(calibration, found, size)
        kinds[kind].append(seen)
        classes[seen.input_class].append(seen)
    print(f"\n{calibration.id}, {calibration.n} scenes, errors up to {calibration.bound:g}")
    print("mean over spots of the worst error in the mask ± standard error / trusted area\n")
    levels = [f"α = {alpha:g}" for alpha in ALPHAS]
    head = ("images", "refused", *levels, "equal")
    print_table(("upload", *head), [row(kind, kinds[kind]) for kind in given.kind])
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
