"""What are spread and residual worth where the model draws? `python -m benchmarks.stochastic DIR`.

A simulated posterior: the embedded upscaler sees X with Gaussian noise, of the strength at which
the samples' variance equals the squared error of their mean. DIR holds high-resolution
photographs; one crop of 256×256 of each is a scene: 100 are for the user, 100 for the test. Every σ
that is fitted takes 30 of the user's scenes and is calibrated on 70; the others on all 100.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.conformal import RiskCurve, Staircase, fidelity, fitting
from app.conformal.folding import Folded
from app.conformal.indecision import Accumulator, IndecisionSettings
from app.conformal.lab import normalised_lab
from app.conformal.texture import Maps
from app.images.degrade import Degradation, degrade
from app.images.enlarge import Enlarged
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.seeds import GROUP_ORDER
from benchmarks.table import print_table

ALPHAS = (0.05, 0.075, 0.1, 0.125)
BOUND = 0.5  # errors are counted up to it
SIDE, SCENES, FITTED_ON, SAMPLES = 256, 100, 30, 4
STRENGTHS = (2.0, 4.0, 8.0, 12.0)  # of the noise, in grey levels
TRIED_ON = 8


class Drawn(NamedTuple):
    """One scene: X, its samples [M, H, W, 3], and D of the first of them."""

    x: NDArray[np.uint8]
    samples: NDArray[np.uint8]
    error: NDArray[np.float32]


def crops(folder: Path) -> list[NDArray[np.uint8]]:
    """The middle of each photograph, in the order of a shuffle that is always the same."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"})
    order = np.random.default_rng(0).permutation(len(paths))[: 2 * SCENES]
    found = []
    for place in order:
        image = np.asarray(Image.open(paths[place]).convert("RGB"))
        top, left = ((side - SIDE) // 2 for side in image.shape[:2])
        found.append(np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE]))
    return found


class Posterior:
    """Samples of the embedded upscaler, each from an input with noise of its own."""

    def __init__(self, strength: float) -> None:
        self.upscaler = EmbeddedUpscaler("span-x4")
        self.strength = strength

    def drawn(self, truth: NDArray[np.uint8], seed: int) -> Drawn:
        x = degrade(truth, self.upscaler.scale, Degradation(), 0)
        samples = np.stack([self._sample(x, 1000 * seed + m) for m in range(SAMPLES)])
        return Drawn(
            x, samples, fidelity.error(truth, samples[0], fidelity.FidelitySettings(bound=BOUND))
        )

    def _sample(self, x: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        noise = np.random.default_rng(seed).normal(0, self.strength, x.shape)
        noisy = np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)
        # A multiple of the order is the identity: what differs is the noise alone.
        [made] = asyncio.run(self.upscaler.generate(Source(noisy), [GROUP_ORDER]))
        return made


def calibrated(truths: Sequence[NDArray[np.uint8]]) -> Posterior:
    """The posterior whose spread is nearest to its error, on the first scenes."""

    def gap(strength: float) -> float:
        posterior, spread, wrong = Posterior(strength), 0.0, 0.0
        for seed, truth in enumerate(truths[:TRIED_ON]):
            lab = np.stack([normalised_lab(s) for s in posterior.drawn(truth, seed).samples])
            spread += float(lab.var(axis=0, ddof=1).mean())
            wrong += float(((lab.mean(axis=0) - normalised_lab(truth)) ** 2).mean())
        print(f"noise of {strength:g}: variance {spread / wrong:.2f} of the squared error")
        return abs(float(np.log(spread / wrong)))

    return Posterior(min(STRENGTHS, key=gap))


def maps_of(scene: Drawn, count: int, without: str | None) -> Maps:
    """Of the first samples; `without` one of the energies."""
    folded = Folded(scene.samples.shape[1:], Enlarged(scene.x, SIDE // scene.x.shape[0]))
    for sample in scene.samples[:count]:
        folded.add(sample)
    maps = folded.maps()
    return maps._replace(**{without: None}) if without else maps


def plain(scene: Drawn, count: int, estimator: str) -> NDArray[np.float32]:
    """An estimator without a fit."""
    enlarged = Enlarged(scene.x, SIDE // scene.x.shape[0])
    folded = Accumulator(scene.samples.shape[1:], IndecisionSettings(estimator), enlarged)
    for sample in scene.samples[:count]:
        folded.add(sample)
    return folded.result()


def areas(
    calibration: Sequence[tuple[NDArray[np.float32], Drawn]],
    test: Sequence[tuple[NDArray[np.float32], Drawn]],
) -> list[str]:
    """Trusted area / mean of the worst error for each of `ALPHAS`."""
    stairs = [Staircase.from_maps(sigma, scene.error) for sigma, scene in calibration]
    curve = RiskCurve.from_staircases(stairs, BOUND)
    out = []
    for alpha in ALPHAS:
        masks = [(sigma < curve.threshold(alpha), scene.error) for sigma, scene in test]
        area = np.mean([mask.mean() for mask, _ in masks])
        loss = np.mean([error[mask].max(initial=0) for mask, error in masks])
        out.append(f"{area:.3f} / {loss:.3f}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("photographs", type=Path, help="at least 200")
    truths = crops(parser.parse_args().photographs)
    posterior = calibrated(truths)
    begun = time.perf_counter()
    scenes = [posterior.drawn(truth, seed) for seed, truth in enumerate(truths)]
    print(f"noise of {posterior.strength:g}; generated in {time.perf_counter() - begun:.0f} s\n")
    own, test = scenes[:SCENES], scenes[SCENES:]
    rows = []
    for count in (1, SAMPLES):
        for estimator in ("residual", *(["smoothed_variance"] if count > 1 else [])):
            sigmas = [[(plain(s, count, estimator), s) for s in part] for part in (own, test)]
            rows.append((f"{estimator}, M = {count}", *areas(*sigmas), "-"))
        for without in (None, "residual", *(["variance"] if count > 1 else [])):
            begun = time.perf_counter()
            seen = [fitting.seen(maps_of(s, count, without), s.error) for s in own[:FITTED_ON]]
            fit = fitting.fit(seen, units=fitting.units_for(FITTED_ON))
            sigmas = [
                [(fit.sigma(maps_of(s, count, without)), s) for s in part]
                for part in (own[FITTED_ON:], test)
            ]
            name = f"fitted{f' without {without}' if without else ''}, M = {count}"
            rows.append((name, *areas(*sigmas), f"{time.perf_counter() - begun:.0f}"))
    print_table(("σ", *(f"α = {alpha:g}" for alpha in ALPHAS), "seconds"), rows)


if __name__ == "__main__":
    main()
