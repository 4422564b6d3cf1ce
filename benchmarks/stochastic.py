"""What do more samples add to one? `python -m benchmarks.stochastic DIR`.

The model is `realesr-x4`, which is deterministic: samples come from its symmetries, or from noise
in X as a latent. DIR holds high-resolution photographs; one crop of 256×256 of each is a scene: 100
are for the user, 100 for the test. Every σ that is fitted takes 30 of the user's scenes and is
calibrated on 70; the others on all 100.
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

from benchmarks.table import print_table
from trustscale_server.conformal import LossCurve, RiskCurve, fidelity
from trustscale_server.images.degrade import Degradation, degrade
from trustscale_server.images.resize import Enlarged
from trustscale_server.sigma import fitting
from trustscale_server.sigma.estimators import Accumulator, IndecisionSettings
from trustscale_server.upscalers.base import GROUP_ORDER, Source
from trustscale_server.upscalers.embedded import EmbeddedUpscaler

ALPHAS = (0.05, 0.075, 0.1, 0.15)
BOUND = 0.5  # errors are counted up to it
SIDE, SCENES, FITTED_ON, SAMPLES = 256, 100, 30, 4
STRENGTHS = (2.0, 4.0, 8.0)  # of the noise, in grey levels
SYMMETRIES = 0.0

Pixels = NDArray[np.uint8]


class Scene(NamedTuple):
    """X, the samples by the strength of their noise [M, H, W, 3], and D of the plain answer."""

    x: Pixels
    samples: dict[float, Pixels]
    error: NDArray[np.float32]


def crops(folder: Path) -> list[Pixels]:
    """The middle of each photograph, in the order of a shuffle that is always the same."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"})
    order = np.random.default_rng(0).permutation(len(paths))[: 2 * SCENES]
    found = []
    for place in order:
        image = np.asarray(Image.open(paths[place]).convert("RGB"))
        top, left = ((side - SIDE) // 2 for side in image.shape[:2])
        found.append(np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE]))
    return found


class Sampler:
    """Samples of the model under its symmetries, or each from an input with its own noise."""

    def __init__(self) -> None:
        self.upscaler = EmbeddedUpscaler("realesr-x4", "realesr-x4", precision="auto")

    async def scene(self, truth: Pixels, seed: int) -> Scene:
        x = degrade(truth, self.upscaler.scale, Degradation(), 0)
        # A multiple of the order is the identity: the answer that people get.
        seeds = [GROUP_ORDER, *range(1, SAMPLES)]
        samples = {SYMMETRIES: np.stack(await self.upscaler.generate(Source(x), seeds))}
        for strength in STRENGTHS:
            noisy = [await self._noisy(x, strength, 1000 * seed + m) for m in range(1, SAMPLES)]
            samples[strength] = np.stack([samples[SYMMETRIES][0], *noisy])
        settings = fidelity.FidelitySettings(bound=BOUND)
        return Scene(x, samples, fidelity.error(truth, samples[SYMMETRIES][0], settings))

    async def _noisy(self, x: Pixels, strength: float, seed: int) -> Pixels:
        noise = np.random.default_rng(seed).normal(0, strength, x.shape)
        noisy = np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)
        [made] = await self.upscaler.generate(Source(noisy), [GROUP_ORDER])
        return made


def accumulated(scene: Scene, kind: float, count: int, estimator: str) -> Accumulator:
    """The first samples of a kind, with all that an estimator may look at."""
    enlarged = Enlarged(scene.x, SIDE // scene.x.shape[0])
    accumulator = Accumulator(enlarged.shape, IndecisionSettings(estimator), enlarged, count)
    for sample in scene.samples[kind][:count]:
        accumulator.add(sample)
    return accumulator


def areas(
    calibration: Sequence[tuple[NDArray[np.float32], Scene]],
    test: Sequence[tuple[NDArray[np.float32], Scene]],
) -> list[str]:
    """Trusted area / mean of the worst error for each of `ALPHAS`."""
    stairs = [LossCurve.from_maps(sigma, scene.error) for sigma, scene in calibration]
    curve = RiskCurve.from_loss_curves(stairs, BOUND)
    out = []
    for alpha in ALPHAS:
        masks = [(sigma < curve.threshold(alpha), scene.error) for sigma, scene in test]
        area = np.mean([mask.mean() for mask, _ in masks])
        loss = np.mean([error[mask].max(initial=0) for mask, error in masks])
        out.append(f"{area:.3f} / {loss:.3f}")
    return out


def plain(own: Sequence[Scene], test: Sequence[Scene], *how: float | str) -> list[str]:
    sigmas = [[(accumulated(s, *how).result(), s) for s in part] for part in (own, test)]
    return areas(*sigmas)


def fitted(own: Sequence[Scene], test: Sequence[Scene], kind: float, count: int) -> list[str]:

    def maps(scene: Scene):
        return accumulated(scene, kind, count, "departure").maps()

    seen = [fitting.fit_sample(maps(s), s.error) for s in own[:FITTED_ON]]
    fit = fitting.fit(seen, units=fitting.units_for(FITTED_ON))
    return areas(*([(fit.sigma(maps(s)), s) for s in part] for part in (own[FITTED_ON:], test)))


async def drawn(truths: Sequence[Pixels]) -> list[Scene]:
    sampler = Sampler()
    return [await sampler.scene(truth, seed) for seed, truth in enumerate(truths)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("photographs", type=Path, help="at least 200")
    begun = time.perf_counter()
    scenes = asyncio.run(drawn(crops(parser.parse_args().photographs)))
    print(f"generated in {time.perf_counter() - begun:.0f} s\n")
    both = scenes[:SCENES], scenes[SCENES:]
    names = {SYMMETRIES: "symmetries", **{s: f"noise of {s:g}" for s in STRENGTHS}}
    rows = [("departure, M = 1", *plain(*both, SYMMETRIES, 1, "departure"))]
    for count in (2, SAMPLES):
        for kind, name in names.items():
            cells = plain(*both, kind, count, "smoothed_variance")
            rows.append((f"smoothed_variance, {name}, M = {count}", *cells))
    for kind, count in ((SYMMETRIES, 1), (SYMMETRIES, SAMPLES), (4.0, SAMPLES)):
        how = "" if count == 1 else f", {names[kind]}"
        rows.append((f"fitted{how}, M = {count}", *fitted(*both, kind, count)))
    print_table(("σ", *(f"α = {alpha:g}" for alpha in ALPHAS)), rows)


if __name__ == "__main__":
    main()
