"""Images, files and calibrations for tests."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.conformal import LossCurve
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.loss_curve import coarse_up
from trustscale_server.images.encoding.png import to_png
from trustscale_server.kinds.degradation import Degradation
from trustscale_server.kinds.degrade import make_input
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import Source

SIDE = 48
"""Of most outputs in tests."""

NEVER = LossCurve([], [])
"""The loss curve of a spot without error."""


def photo(seed=0, height=24, width=32):
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.random((height, width, 3)), (3, 3, 0), mode="wrap")
    smooth = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-9)
    smooth[height // 3 : height // 2, width // 4 : width // 2] += 0.4
    return np.clip(smooth * 200 + 20, 0, 255).astype(np.uint8)


def upload(seed, height=24, width=24):
    """A picture made as a calibration makes X, for an upscaler of ×2."""
    return make_input(photo(seed, 2 * height, 2 * width), 2, Degradation(), 0).pixels


def cells(seed, side=12):
    """Counts of a detector of 12 bits, [side, side, 1]: blobs on a dark ground."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.random((side, side)), 1.5, mode="wrap")
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return np.rint(100 + 3000 * smooth**2)[..., np.newaxis].astype(np.uint16)


def sharp(left=60, side=96):
    """A part of a photograph, of the class `lossless`; a `photo` is of others."""
    bridge = Image.open(Path(__file__).parents[1] / "examples" / "bridge.png")
    return np.asarray(bridge.convert("RGB"))[30 : 30 + side, left : left + side].copy()


def encoded(image, form="PNG", **options):
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def pictures(folder, *names, side=48, first=0):
    """A folder with a picture of each name, all different; their suffixes say the formats."""
    for k, name in enumerate(names, first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(k, side, side)).save(path)
    return folder


def truths(folder, count, *, side=48):
    return pictures(folder, *(f"{k:03}.png" for k in range(count)), side=side)


async def calibration_of(upscaler, count=30, *, side=SIDE, samples=4, file=None, **fields):
    """A calibration of synthetic images, of one spot each; `file` makes each of them.

    By default errors are not cut, so α is larger than usual.
    """
    fields = {"fidelity": FidelitySettings(spot=SIDE), **fields}
    pipeline = MeasurementSpec(
        fingerprint=upscaler.fingerprint, scale=upscaler.scale, samples=samples, **fields
    )
    pairs = []
    for k in range(count):
        y = file(k) if file else to_png(photo(k, side, side))
        pair = load_pair(PairSource(f"{k:03}"), {"y": y}, pipeline, degradation=None, seed=0)
        measurement = await measure(upscaler, Source(pair.x), pipeline, pair.seed)
        pairs.append(reduce_pair(pair, measurement, pipeline))
    alpha = 0.1 if pipeline.fidelity.bound > 1 else 0.05
    return Calibration.from_pairs(
        pairs, upscaler=upscaler.name, pipeline=pipeline, default_alpha=alpha
    )


def in_groups(calibration, groups):
    """The same calibration with the groups of its pairs, by name."""
    pairs = [
        {**pair, **({"group": groups[pair["name"]]} if pair["name"] in groups else {})}
        for pair in calibration.document["pairs"]
    ]
    return changed(calibration, pairs=pairs)


def changed(calibration, **fields):
    """The same calibration with other fields in its document, and so with another id."""
    document = {**calibration.document, **fields}
    return replace(calibration, document=document)


def with_arrays(calibration, **arrays):
    """The same calibration with other arrays of its pairs, and so with another id."""
    return replace(calibration, arrays=replace(calibration.arrays, **arrays))


def made_of(template, updates, losses=(), *, fields=None, **pipeline):
    """A calibration of pairs like the template's first with other fields, named in order.

    losses: of each pair the loss of its one spot, or of several, from σ = 0.5 on; without them no
    pair has any. fields: further ones of the calibration.
    """
    info = template.manifest.pairs[0]
    quantiles = coarse_up(np.linspace(0, 1, 101).astype(np.float32))
    pairs = [
        MeasuredPair(
            info.model_copy(update={"name": str(k), **update}),
            [LossCurve([0.5], [one]).coarse(9) if one else NEVER for one in np.atleast_1d(loss)],
            quantiles,
        )
        for k, (update, loss) in enumerate(zip(updates, losses or [0] * len(updates), strict=True))
    ]
    live = MeasurementSpec(fingerprint="fake:1", scale=2, samples=4, **pipeline)
    return Calibration.from_pairs(pairs, upscaler="fake", pipeline=live, **(fields or {}))
