"""False alarms and delays of the monitor. `python -m benchmarks.drift [REPEATS]` (200: 10 minutes).

The serving code folds every stream. Drift: z is normal, calibration and requests alike, until it
shifts. Feedback: losses are drawn from the staircases of the shipped calibration. The last tables
draw n of its images, take the threshold of α from them, and label masks of images drawn from all;
and measure what the monitor costs.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.calibration.active import shipped_calibration
from app.conformal import RiskCurve, drift, feedback
from app.conformal.drift import CEILING, DELTA, EPOCH, Drift
from app.conformal.feedback import Feedback
from app.stores.base import open_stores
from app.watch.monitor import Monitor
from app.watch.requests import Observation
from benchmarks.table import print_table

ALPHA = 0.1
LIMITS = {"S, δ = 0.05": ("log_s", 20.0), "S, δ = 0.01": ("log_s", 1 / DELTA)}
LIMITS["V, c = 100,000"] = ("log_v", CEILING)

Random = np.random.Generator


def stream(
    random: Random,
    n: int,
    requests: int,
    *,
    quiet: int = 0,
    shift: float = 0.0,
    online: bool = True,
) -> Iterator[Drift]:
    """The states after each request; from request `quiet` on, z is shifted."""
    reference = drift.reference_of(random.normal(size=n))
    state = Drift()
    for t in range(requests):
        z = random.normal() + (shift if t >= quiet else 0.0)
        state = drift.observe(state, reference, z, random.random())
        yield state
        if not online:  # forget the requests: ranks among the calibration images alone
            state = Drift(np.empty(0, np.float32), state.shares, state.log_s, state.log_v)


def false_alarms(repeats: int) -> None:
    rows = []
    for name, n, online in (
        ("calibration and requests", 100, True),
        ("calibration and requests", 243, True),
        ("calibration alone", 100, False),
        ("calibration alone", 243, False),
    ):
        hits = dict.fromkeys(LIMITS, 0)
        for seed in range(repeats):
            states = list(stream(np.random.default_rng(seed), n, EPOCH, online=online))
            for key, (field, limit) in LIMITS.items():
                hits[key] += max(getattr(one, field) for one in states) >= math.log(limit)
        rows.append((name, n, *(f"{hits[key] / repeats:.3f}" for key in LIMITS)))
    print_table(["ranks among", "n", *LIMITS], rows)


def delays(repeats: int) -> None:
    rows = []
    for quiet in (0, 200, 700):
        for shift in (0.25, 0.5, 1.0, 2.0):
            found: dict[str, list[float]] = {key: [] for key in LIMITS}
            for seed in range(repeats):
                random = np.random.default_rng(seed)
                states = list(stream(random, 243, EPOCH, quiet=quiet, shift=shift))[quiet:]
                for key, (field, limit) in LIMITS.items():
                    hits = (
                        k for k, one in enumerate(states) if getattr(one, field) >= math.log(limit)
                    )
                    found[key].append(next(hits, math.inf) + 1)
            rows.append((quiet, shift, *(middle(found[key]) for key in LIMITS)))
    print_table(["quiet requests before", "shift, sd", *LIMITS], rows)


def middle(values: Sequence[float]) -> str:
    """Median and 90 % quantile."""
    low, high = (np.quantile(values, q, method="higher") for q in (0.5, 0.9))
    return " / ".join("never" if math.isinf(v) else f"{v:.0f}" for v in (low, high))


def follow(losses: NDArray[np.float64], alpha: float, bound: float, slack: float) -> list[Feedback]:
    states, state = [], Feedback()
    for loss in losses:
        state = feedback.observe(state, float(loss), alpha, bound, slack=slack)
        states.append(state)
    return states


def audits(repeats: int) -> None:
    """Losses of a fixed law with a mean of `ratio` α."""
    calibration = shipped_calibration()
    bound = calibration.bound
    threshold = calibration.curve.threshold(ALPHA)
    real = np.array([stair.loss_below(threshold) for stair in calibration.staircases])
    rows = []
    for ratio in (0.8, 1.0, 1.25, 1.67, 2.0, 3.0):
        hits, misses, widths, early = [], 0, [], []
        for seed in range(repeats):
            random = np.random.default_rng(seed)
            losses = random.choice(real, 400) * (ratio * ALPHA / real.mean())
            states = follow(np.minimum(losses, bound), ALPHA, bound, 0.0)
            hits.append(next((one.n for one in states if one.alarms()), math.inf))
            intervals = [feedback.interval(one, bound) for one in states]
            mean = ratio * ALPHA
            misses += any(not one.lower <= mean <= one.upper for one in intervals)
            widths.append(intervals[-1].upper - intervals[-1].lower)
            early.append(intervals[59].upper - intervals[59].lower)
        alarms = np.mean(np.isfinite(hits))
        sizes = f"{np.median(early):.3f} / {np.median(widths):.3f}"
        rows.append((ratio, f"{alarms:.3f}", middle(hits), misses / repeats, sizes))
    print_table(
        [
            "mean loss / α",
            "alarms in 400",
            "labels needed",
            "interval misses",
            "its width at 60 / 400",
        ],
        rows,
    )


def calibrations(repeats: int) -> None:
    """The loss given one calibration may be above α with nothing wrong: what tolerance does."""
    calibration = shipped_calibration()
    bound, every = calibration.bound, calibration.staircases
    rows = []
    for n, alpha in ((60, 0.1), (243, 0.05), (243, 0.1), (1000, 0.1)):
        counts = np.zeros(4)
        for seed in range(repeats):
            random = np.random.default_rng(seed)
            chosen = [every[i] for i in random.choice(len(every), n)]
            threshold = RiskCurve.from_staircases(chosen, bound).threshold(alpha)
            slack = feedback.tolerance([stair.loss_below(threshold) for stair in chosen])
            real = np.array([stair.loss_below(threshold) for stair in every])
            labels = random.choice(real, 400)
            counts += (
                real.mean() > alpha,
                real.mean() > alpha + slack,
                follow(labels, alpha, bound, 0.0)[-1].alarms(),
                follow(labels, alpha, bound, slack)[-1].alarms(),
            )
        rows.append((n, alpha, *(f"{share:.3f}" for share in counts / repeats)))
    print_table(
        [
            "n",
            "α",
            "mean loss above α",
            "above α + tolerance",
            "alarms without tolerance",
            "with tolerance",
        ],
        rows,
    )


async def cost() -> None:
    calibration = shipped_calibration()
    random = np.random.default_rng(0)
    seen, folded, digests = [], [], count()
    with tempfile.TemporaryDirectory() as folder:
        stores = open_stores("sqlite:///", Path(folder), result_ttl_s=60, max_result_bytes=10**9)
        monitor = Monitor(stores.monitor)
        for _ in range(EPOCH):
            started = time.perf_counter()
            monitor.note(
                calibration, Observation(time.time(), random.normal(), 0.5, 0.5, next(digests))
            )
            seen.append(time.perf_counter() - started)
            started = time.perf_counter()
            await monitor.settle()
            folded.append(time.perf_counter() - started)
        await stores.close()
    rows = [
        ("telling the monitor, in the request", f"{1e3 * np.median(seen[-100:]):.3f}"),
        ("folding and storing, beside it (SQLite)", f"{1e3 * np.median(folded[-100:]):.2f}"),
    ]
    print_table(["cost of one request", "ms"], rows)


if __name__ == "__main__":
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    false_alarms(5 * times)
    delays(times)
    audits(times)
    calibrations(times)
    asyncio.run(cost())
