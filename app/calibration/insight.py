"""What a finished calibration tells its admin: thresholds, a picture, checks, backtest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from app.calibration.manifest import PricePoint
from app.calibration.pairs import duplicates
from app.calibration.price import COMMON_ALPHAS, advice, priced
from app.calibration.record import Calibration
from app.conformal import StepCurve
from app.conformal.backtest import BacktestRow, backtest
from app.errors import BadRequest
from app.images import svg
from app.images.facts import in_words

_HEIGHT = 420  # of the picture, in its pixels
_TOP, _BOTTOM = 52, 56


def thresholds(calibration: Calibration) -> list[dict[str, float]]:
    """t_α and the mean trusted area of the pairs at common α and at the default one, in order."""
    rows = []
    for alpha in sorted({*COMMON_ALPHAS, calibration.manifest.default_alpha}):
        threshold = calibration.curve.threshold(alpha)
        rows.append(
            {
                "alpha": alpha,
                "threshold": threshold,
                "trusted_fraction": calibration.mean_trusted_fraction(threshold),
            }
        )
    return rows


def expected(
    calibration: Calibration, splits: int, samples_per_call: int, price_per_call: float | None
) -> dict[str, Any]:
    """What to expect of it, as JSON values: backtest, price of a picture, checks."""
    price = priced(price_of(calibration), samples_per_call, price_per_call)
    return {
        "splits": splits,
        "rows": [asdict(row) for row in run_backtest(calibration, splits)],
        "price": price,
        "advice": advice(price, calibration.manifest.default_alpha),
        "checks": checks(calibration),
    }


def price_of(calibration: Calibration) -> Sequence[PricePoint]:
    """What several M would trust, as it was found; else what its own M trusts."""
    own = [
        PricePoint(
            samples=calibration.pipeline.samples,
            alpha=row["alpha"],
            trusted_area=row["trusted_fraction"],
        )
        for row in thresholds(calibration)
    ]
    return calibration.manifest.price or own


def groups_of(calibration: Calibration) -> list[dict[str, Any]]:
    """Each group with its numbers of scenes and pairs and the smallest α that it can serve."""
    parts = {name: calibration.of_group(name) for name in calibration.groups}
    return [
        {"group": name, "n": part.n, "pairs": part.pairs, "min_alpha": part.curve.min_alpha}
        for name, part in parts.items()
    ]


def classes_of(calibration: Calibration) -> list[dict[str, Any]]:
    """Each class of inputs with its number of scenes and the smallest α that it can serve."""
    parts = {name: calibration.of_class(name) for name in calibration.classes}
    return [
        {"name": name, "title": in_words(name), "n": part.n, "min_alpha": part.curve.min_alpha}
        for name, part in parts.items()
    ]


def checks(calibration: Calibration) -> dict[str, Any]:
    """Whether the assumptions look sound: n, repeated images, image sizes, dominant pairs."""
    alpha = calibration.manifest.default_alpha
    threshold = calibration.curve.threshold(alpha)
    losses = np.array([s.loss_below(threshold) for s in calibration.staircases])
    # What a pair adds to the sum of the scenes' losses.
    parts = np.empty(calibration.pairs)
    for places in calibration.members:
        parts[places] = losses[places] / len(places)
    share = parts / parts.sum() if parts.sum() > 0 else parts
    order = np.argsort(share)[::-1][:5]
    infos = calibration.manifest.pairs
    return {
        "n": calibration.n,
        "pairs": calibration.pairs,
        "minimal_n": calibration.minimal_n(alpha),
        "alpha": alpha,
        "duplicates": duplicates({info.source: info.y_sha256 for info in infos}.items()),
        "sizes": sorted({f"{info.width}x{info.height}" for info in infos})[:20],
        "dominant_pairs": [
            {
                "name": infos[i].name,
                "scene": infos[i].scene,
                "loss": float(losses[i]),
                "share": float(share[i]),
            }
            for i in order
        ],
    }


def coarser(curve: StepCurve, most: int) -> tuple[list[float], list[float]]:
    """Thresholds and risks of a curve in at most so many steps: for pictures.

    Neighbouring steps become one that is as high as the highest of them, so that nowhere it tells a
    smaller risk than the curve.
    """
    edges = np.linspace(0, len(curve.risks), min(most, len(curve.risks)) + 1).astype(int)
    return curve.thresholds[edges[:-1]].tolist(), curve.risks[edges[1:] - 1].tolist()


def run_backtest(
    calibration: Calibration, splits: int, alphas: Sequence[float] = COMMON_ALPHAS
) -> list[BacktestRow]:
    """Realised loss and trusted area over random halvings of the scenes.

    Raises:
        BadRequest: fewer than two scenes.
    """
    if calibration.n < 2:
        raise BadRequest("A backtest needs at least two pairs of different scenes.")
    return backtest(
        calibration.staircases,
        calibration.sigma_quantiles,
        calibration.bound,
        alphas,
        splits=splits,
        scenes=calibration.scenes,
        curve_of=calibration.guarantee.curve,
    )


def leaked(calibration: Calibration, n_leaked: int) -> float:
    """The bound at the default α that survives `n_leaked` scenes that a model was trained on.

    Uploads are answered from the curves of their classes, and all that leaked may lie in one of
    them; so it is the weakest bound of all classes.

    Raises:
        BadRequest: n_leaked is not between 0 and n, or no bound is known for the guarantee.
    """
    if n_leaked > calibration.n:
        raise BadRequest(f"n_leaked must be between 0 and n = {calibration.n}, got {n_leaked}.")
    bounds = []
    for n in {calibration.of_class(name).n for name in calibration.classes or [None]}:
        bound = calibration.guarantee.leakage_bound(
            calibration.manifest.default_alpha, n, min(n_leaked, n), calibration.bound
        )
        if bound is None:
            raise BadRequest(
                "No bound under leakage is known for wsr; leave the images out instead."
            )
        bounds.append(bound)
    return max(bounds)


def risk_plot(calibration: Calibration, group: str | None = None) -> str:
    """Trusted area against α: what a calibration buys, and from which α on it buys anything.

    `group` is only named: the calibration is the part of it.
    """
    curve = calibration.curve
    right = max(min(float(curve.risk(float("inf"))) * 1.15, calibration.bound), 1e-6)
    alphas = np.linspace(0, right, 161)
    areas = [calibration.mean_trusted_fraction(curve.threshold(float(a))) for a in alphas]
    points = [
        (svg.across(float(alpha) / right), _y(0 if np.isnan(area) else area))
        for alpha, area in zip(alphas, areas, strict=True)
    ]
    promise = calibration.guarantee
    name = calibration.manifest.name or calibration.id
    if group:
        name += f", group {group}"
    subject, least = "α, largest expected error", "B/(n+1)"
    if promise.kind == "high_probability":
        subject += f", with probability {1 - promise.delta:g} over the calibration images"
        least = "smallest α"
    parts = [
        *_grid(right, subject),
        svg.line(points, "one"),
        *_limit(curve.min_alpha, right, least),
    ]
    title = f"Trusted area against α, {name}"
    return svg.drawing(_HEIGHT, title, f"{name}, n = {calibration.n}", parts)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(right: float, subject: str) -> Iterator[str]:
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield svg.rule(_y(share), f"{share:.0%}")
        yield svg.text(svg.across(share), _HEIGHT - 32, f"{share * right:.3g}", "middle")
    yield svg.text(svg.across(0.5), _HEIGHT - 10, subject, "middle")
    yield svg.text(svg.LEFT, _TOP - 4, "trusted area")


def _limit(min_alpha: float, right: float, least: str) -> Iterator[str]:
    if min_alpha < right:
        x = svg.across(min_alpha / right)
        yield f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_y(0)}"/>'
        yield svg.text(x + 6, _TOP + 14, f"{least} = {min_alpha:.3g}")
