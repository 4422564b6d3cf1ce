"""The promise on held-out images, through the whole evaluation, with fixed seeds."""

from __future__ import annotations

import asyncio
from copy import copy

import numpy as np
import pytest

from app.calibration.intake import find_in
from app.conformal import RiskCurve
from app.evaluation.cache import SampleCache
from app.evaluation.conduct import Findings, conduct
from app.evaluation.plan import Plan, split
from app.evaluation.reduce import FIDELITY, HIGH_PROBABILITY
from app.evaluation.run import Options
from app.evaluation.tables import Resamples, cell_rows
from app.evaluation.variants import Variant
from tests.evaluation.conftest import ALPHAS
from tests.factories import truths
from tests.fakes import FakeUpscaler

SPLITS = 100

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> Findings:
    """240 images, each of them a draw of its own, 120 of which calibrate."""
    place = tmp_path_factory.mktemp("guarantee")
    items = find_in(truths(place / "photos", 240, side=32))
    variant = Variant(
        name="small", samples=4, indecision={"size": 3, "blur": 1.0}, fidelity={"blur": 1.0}
    )
    options = Options(ALPHAS, 0.2, with_baselines=False, with_pictures=False)
    return asyncio.run(
        conduct(
            [FakeUpscaler(strength=2.0)],
            Plan(*split(items, 0.5, 0), "image"),
            [variant],
            SampleCache(place / "cache"),
            options,
        )
    )


def test_every_promise_is_kept(findings):
    """On 120 held-out images no promise is broken beyond its interval, by any rule, at any α."""
    judged = [row for row in findings.rows if row.alpha is not None]
    assert len(judged) == 3 * len(ALPHAS)
    assert [row for row in judged if row.status == "broken"] == []
    assert findings.verdict.outcome in {"kept", "undecided"}
    # Masks that trust nothing or everything would keep promises for free.
    assert sum(0.02 < row.quantities["area"].mean < 0.98 for row in judged) >= 5


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_threshold_that_is_too_large_is_found(findings, alpha):
    """Power: masks of 1.25 α that are passed off as those of α are judged broken."""
    (result,) = findings.results
    cell = result.cell(FIDELITY)
    curve = RiskCurve.from_staircases(cell.calibration, cell.bound)
    false = np.array([curve.threshold(1.25 * alpha), np.inf])
    cheat = copy(cell)
    cheat.alphas, cheat.thresholds = np.array([alpha]), false
    cheat.quantities = {name: values[:, [0, -1]] for name, values in cell.quantities.items()}
    cheat.quantities["error"] = np.array([one.losses(false, "left") for one in cell.test], float)
    # The judgement that speaks of the test images alone: the calibration is not drawn anew.
    cheat.rule = HIGH_PROBABILITY
    row, _ = cell_rows("fake", cheat, Resamples.of(findings.plan, 0), [alpha])
    assert row.status == "broken"


def test_the_average_over_divisions(findings):
    """Over 100 divisions of the same images the mean loss is at most α, and not far below it.

    A random division of a fixed pool is exchangeable, so the theorem holds for it exactly; three
    standard errors of the simulation are allowed. The other side says that the mask is not empty.
    """
    (result,) = findings.results
    cell = result.cell(FIDELITY)
    pool, bound = [*cell.calibration, *cell.test], cell.bound
    random = np.random.default_rng(0)
    realised = []
    for _ in range(SPLITS):
        order = random.permutation(len(pool))
        curve = RiskCurve.from_staircases([pool[i] for i in order[:120]], bound)
        thresholds = np.array([curve.threshold(alpha) for alpha in ALPHAS])
        losses = [pool[i].losses(thresholds, "left") for i in order[120:]]
        realised.append(np.mean(losses, axis=0))
    errors = np.std(realised, axis=0) / np.sqrt(SPLITS)
    for alpha, mean, error in zip(ALPHAS, np.mean(realised, axis=0), errors, strict=True):
        assert mean <= alpha + 3 * error
        assert mean >= alpha - 1.5 * bound / 121
