"""How large is the trust mask under each σ? `python -m benchmarks.power CALIBRATION TEST`.

Both folders hold high-resolution photographs of one law, from which X is made in one way. Every
estimator is calibrated on the first folder and measured on the second: the trusted area and the
mean of the worst error inside the mask, errors counted up to .5, for some α. The last row is an
oracle that knows the error. The second table is of thresholds that lose as much on the second
folder itself, so it compares areas at an equal realised loss. `--cache DIR` keeps the samples,
which take most of the time, for the next run; with `--calls 1` only what needs no more of them is
compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import gettempdir

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import print_table
from trustscale_server.calibration.intake import find_in
from trustscale_server.calibration.pairs import load_pair
from trustscale_server.conformal import LossCurve, RiskCurve, fidelity
from trustscale_server.images.degrade import Degradation
from trustscale_server.images.facts import UPLOAD, classify
from trustscale_server.images.resize import Enlarged
from trustscale_server.sampling.pipeline import TRUST_LAYER_VERSION, Pipeline
from trustscale_server.sigma.estimators import SHIPPED as SHIPPED_FITS
from trustscale_server.sigma.estimators import Accumulator, IndecisionSettings, shipped
from trustscale_server.upscalers.base import Source, sample_seeds
from trustscale_server.upscalers.embedded import EmbeddedUpscaler
from trustscale_server.upscalers.runtime import SHIPPED

ALPHAS = (0.05, 0.075, 0.1, 0.125, 0.15)
SAMPLES = 8
CUT = 0.5
ORACLE = "oracle, σ = D"


def estimators(upscaler: str, calls: int) -> dict[str, tuple[int, IndecisionSettings]]:
    """σ by name that need no more calls: M, and the settings."""
    fit, *fits = (shipped(name) for name in SHIPPED_FITS if name.startswith(f"{upscaler}-m1"))
    found = {
        # Box of 31 and blur of 64 on 2048 pixels, scaled to 512 as far as the box allows.
        "the paper's recipe, M = 8": (
            SAMPLES,
            IndecisionSettings("patch_variance", size=31, clip_quantile=0.95, blur=16),
        ),
        "smoothed_variance, M = 8": (SAMPLES, IndecisionSettings()),
        "smoothed_variance, M = 2": (2, IndecisionSettings()),
        "departure, M = 1": (1, IndecisionSettings("departure")),
        "fitted, M = 1": (1, IndecisionSettings("fitted", fit=fit, fits=tuple(fits))),
    }
    return {name: one for name, one in found.items() if one[0] <= calls}


_EVERY = 16  # of the sorted σ: enough to count a mask with

Steps = dict[str, tuple[LossCurve, NDArray[np.float32]]]


def photographs(
    folder: Path, upscaler: EmbeddedUpscaler, degradation: Degradation, calls: int, cache: Path
) -> list[Path]:
    """One .npz per photograph of x, y, samples s [M, H, W, 3], facts and class."""
    kept = cache / "-".join(folder.resolve().parts[-2:])
    kept.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline(
        fingerprint=upscaler.fingerprint,
        scale=upscaler.scale,
        samples=calls,
        indecision=IndecisionSettings("departure"),
    )
    out = []
    with asyncio.Runner() as runner:
        for files in find_in(folder):
            path = kept / f"{files.name}.npz"
            if not path.exists():
                data = Path(str(files.y)).read_bytes()
                pair = load_pair(files.name, data, None, pipeline, degradation=degradation, seed=0)
                source = Source(pair.x)
                made = runner.run(upscaler.generate(source, sample_seeds(pair.seed, calls)))
                facts = json.dumps(pair.facts.terms())
                name = "" if pair.facts.is_nearly_soft else classify(UPLOAD, pair.facts)
                np.savez(path, x=pair.x, y=pair.y, s=np.stack(made), facts=facts, name=name)
            out.append(path)
    return out


def measured(path: Path, name: str, calls: int) -> Steps:
    """The loss curve of one photograph and its sorted σ, under each estimator of an upscaler."""
    with np.load(path) as arrays:
        x, truth, samples = (arrays[key] for key in ("x", "y", "s"))
        facts, input_class = json.loads(str(arrays["facts"])), str(arrays["name"])
    error = fidelity.error(truth, samples[0], fidelity.FidelitySettings(bound=CUT))
    sigmas = {ORACLE: error}
    for title, (count, of_all) in estimators(name, calls).items():
        settings = of_all.of_class(input_class)
        enlarged = Enlarged(x, samples.shape[1] // x.shape[0])
        accumulator = Accumulator(samples.shape[1:], settings, enlarged)
        accumulator.facts = facts
        for sample in samples[:count]:
            accumulator.add(sample)
        sigmas[title] = accumulator.result()
    return {
        title: (LossCurve.from_maps(sigma, error), np.sort(sigma, axis=None)[::_EVERY])
        for title, sigma in sigmas.items()
    }


def served(
    name: str, calibration: Sequence[Steps], test: Sequence[Steps]
) -> list[tuple[float, float]]:
    """Trusted area and mean loss of the test photographs for each of `ALPHAS`."""
    curve = RiskCurve.from_loss_curves((steps[name][0] for steps in calibration), CUT)
    return [at(curve.threshold(alpha), name, test) for alpha in ALPHAS]


def realised(name: str, test: Sequence[Steps]) -> list[tuple[float, float]]:
    """The same with the largest thresholds whose mean loss on these photographs is at most α."""
    curve = RiskCurve.from_loss_curves((steps[name][0] for steps in test), CUT)
    count = len(test)
    # Without what the promise adds for the next photograph.
    return [
        at(curve.threshold((count * alpha + CUT) / (count + 1)), name, test) for alpha in ALPHAS
    ]


def at(threshold: float, name: str, test: Sequence[Steps]) -> tuple[float, float]:
    """Trusted area and mean loss with this threshold."""
    levels = [steps[name][1] for steps in test]
    area = [np.searchsorted(one, threshold, side="left") / len(one) for one in levels]
    loss = [steps[name][0].loss_below(threshold) for steps in test]
    return float(np.mean(area)), float(np.mean(loss))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("calibration", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--upscaler", choices=list(SHIPPED), default="span-x4")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--degradation", default="{}", help="how X is made, as JSON")
    parser.add_argument("--calls", type=int, default=SAMPLES, help="the most that a σ may need")
    parser.add_argument("--cache", type=Path, default=Path(gettempdir()) / "trustscale-power")
    given = parser.parse_args()
    upscaler = EmbeddedUpscaler(given.upscaler, given.upscaler, precision=given.precision)
    degradation = Degradation.model_validate_json(given.degradation)
    made = "".join(filter(str.isalnum, given.degradation))
    kind = f"{given.upscaler}-{given.precision}-{made}-{given.calls}-{TRUST_LAYER_VERSION}"
    cache = given.cache / kind
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        sets = [
            list(
                pool.map(
                    partial(measured, name=given.upscaler, calls=given.calls),
                    photographs(folder, upscaler, degradation, given.calls, cache),
                    chunksize=4,
                )
            )
            for folder in (given.calibration, given.test)
        ]
    print(f"n = {len(sets[0])}, {len(sets[1])} test photographs; trusted area / mean loss\n")
    titles = (*estimators(given.upscaler, given.calls), ORACLE)
    compared = {
        "σ": [served(title, *sets) for title in titles],
        "σ, at an equal loss": [realised(title, sets[1]) for title in titles],
    }
    for kind, found in compared.items():
        rows = [
            (title, *(f"{area:.3f} / {loss:.3f}" for area, loss in areas))
            for title, areas in zip(titles, found, strict=True)
        ]
        print_table((kind, *(f"α = {alpha:g}" for alpha in ALPHAS)), rows)


if __name__ == "__main__":
    main()
