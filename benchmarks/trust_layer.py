"""The trust layer against the straightforward way: `python -m benchmarks.trust_layer`.

1. Loss curve of a 2048×2048 pair (σ, D) against argsort + running maximum.
2. σ, mask and trust level of 8 decoded samples against float64 scikit-image and scipy.

Each ratio is the median over interleaved rounds of one run. Memory is the peak above the inputs,
as `tracemalloc` sees it (numpy reports its arrays).
"""

from __future__ import annotations

import statistics
import tracemalloc
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab

from benchmarks.table import print_table
from benchmarks.timing import timed
from trustscale_server.conformal import LossCurve, RiskCurve
from trustscale_server.sigma import estimators

SIDE = 2048
ROUNDS = 5
random = np.random.default_rng(0)


def noise(deviation: float) -> np.ndarray:
    values = random.random((SIDE, SIDE), dtype=np.float32)
    return ndimage.gaussian_filter(values, deviation) if deviation else values


def fields() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rough = random.random((SIDE, SIDE), dtype=np.float32)
    clipped = noise(16)
    return {
        "smooth (Gaussian 64)": (noise(64), noise(64)),
        "smooth (Gaussian 4)": (noise(4), noise(4)),
        "rough, independent": (noise(0), noise(0)),
        "rough, D grows with σ": (rough, rough * noise(0)),
        "clipped at the .95 quantile": (
            np.minimum(clipped, np.quantile(clipped, 0.95)).astype(np.float32),
            noise(16),
        ),
        "87 % zeros, 8-bit levels": (
            np.where(noise(0) < 0.87, 0, np.round(noise(0) * 255) / 255).astype(np.float32),
            noise(0),
        ),
        "constant σ": (np.zeros((SIDE, SIDE), np.float32), noise(0)),
    }


def argsort_staircase(sigma: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The obvious way, complete: sort, running maximum, close ties, keep the rises."""
    order = np.argsort(sigma, axis=None)
    levels, running = sigma.ravel()[order], np.maximum.accumulate(error.ravel()[order])
    last = np.append(levels[1:] > levels[:-1], True)
    levels, running = levels[last], running[last]
    rises = np.diff(running, prepend=np.float32(0)) > 0
    return levels[rises], running[rises]


def peak(function: Callable[[], object]) -> int:
    tracemalloc.start()
    function()
    _, top = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return top


def loss_curves() -> None:
    rows = []
    for name, (sigma, error) in fields().items():
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(timed(lambda s=sigma, e=error: LossCurve.from_maps(s, e)).wall)
            theirs.append(timed(lambda s=sigma, e=error: argsort_staircase(s, e)).wall)
        loss_curve = LossCurve.from_maps(sigma, error)
        levels, running = argsort_staircase(sigma, error)
        same = np.array_equal(loss_curve.levels, levels) and np.array_equal(
            loss_curve.errors, running
        )
        extra = peak(lambda s=sigma, e=error: LossCurve.from_maps(s, e))
        ratio = statistics.median(t / o for o, t in zip(ours, theirs, strict=True))
        rows.append(
            (
                name,
                len(loss_curve),
                f"{1e3 * statistics.median(theirs):.0f}",
                f"{1e3 * statistics.median(ours):.1f}",
                f"{ratio:.1f}",
                f"{extra / (sigma.nbytes + error.nbytes):.2f}",
                "yes" if same else "NO",
            )
        )
    print(f"\nStaircase of a {SIDE}×{SIDE} float32 pair\n")
    print_table(
        ("field", "breakpoints", "argsort, ms", "ours, ms", "× faster", "memory/inputs", "equal"),
        rows,
    )


def samples(count: int) -> list[np.ndarray]:
    base = np.stack([noise(6) for _ in range(3)], -1)
    base = (base - base.min()) / (base.max() - base.min())
    return [
        np.clip(base * 255 + random.normal(0, 4, base.shape), 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def straightforward(stack: list[np.ndarray], curve: RiskCurve) -> tuple[np.ndarray, ...]:
    """float64 and whole stacks: how one would write it down."""
    lab = np.stack([rgb2lab(sample) for sample in stack])
    lab = np.stack([lab[..., 0] / 100, lab[..., 1] / 254 + 0.5, lab[..., 2] / 254 + 0.5], -1)
    variance = lab.var(axis=0).sum(axis=-1)
    sigma = ndimage.gaussian_filter(ndimage.uniform_filter(variance, 7), 4)
    levels = np.append(curve.min_alpha, curve.risks)
    trust = levels[np.searchsorted(curve.thresholds, sigma, side="right")]
    return sigma, sigma < curve.threshold(0.1), trust


def ours(stack: list[np.ndarray], curve: RiskCurve) -> tuple[np.ndarray, ...]:
    accumulator = estimators.Accumulator(stack[0].shape)
    for sample in stack:
        accumulator.add(sample)
    sigma = accumulator.result()
    return sigma, curve.mask(sigma, 0.1), curve.trust_code(sigma)


def trust_layer() -> None:
    stack = samples(8)
    sigma, _, _ = ours(stack, RiskCurve.from_loss_curves([], 1.9576))
    # A curve of 60 images whose σ has the scale of the samples, as a calibration has.
    curve = RiskCurve.from_loss_curves(
        [
            LossCurve.from_maps(
                sigma[:512, :512] * np.float32(random.uniform(0.3, 3)),
                ndimage.gaussian_filter(random.random((512, 512), dtype=np.float32), 4) / 4,
            )
            for _ in range(60)
        ],
        1.9576,
    )
    fast, slow = [], []
    for _ in range(3):
        fast.append(timed(lambda: ours(stack, curve)).wall)
        slow.append(timed(lambda: straightforward(stack, curve)).wall)
    ratio = statistics.median(s / f for f, s in zip(fast, slow, strict=True))
    reference, _, _ = straightforward(stack, curve)
    memory = {m: peak(lambda m=m: ours(stack[:m], curve)) for m in (2, 4, 8)}
    print(f"\nσ, mask and trust level of 8 samples of {SIDE}×{SIDE}\n")
    print_table(
        ("", "float64 scikit-image/scipy", "ours"),
        [
            ("median time, s", f"{statistics.median(slow):.2f}", f"{statistics.median(fast):.2f}"),
            ("× faster", "1", f"{ratio:.1f}"),
            ("largest difference of σ", "", f"{np.abs(sigma - reference).max():.1e}"),
            (
                "  relative to the largest σ",
                "",
                f"{np.abs(sigma - reference).max() / reference.max():.1e}",
            ),
            *((f"peak memory, M = {m}, MB", "", f"{top / 1e6:.0f}") for m, top in memory.items()),
        ],
    )


if __name__ == "__main__":
    loss_curves()
    trust_layer()
