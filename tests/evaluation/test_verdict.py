"""What is said of the numbers."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import replace

import pytest

from app.evaluation.plan import Plan
from app.evaluation.verdict import HEADLINES, judge
from app.images.degrade import Degradation

pytestmark = pytest.mark.slow


def judged(findings, *, main="kept", other="kept"):
    """The verdict if the main promise and one other had these statuses, and the rest were kept."""
    rows = []
    for row in findings.rows:
        status = None if row.alpha is None else "kept"
        if (row.variant, row.alpha) == ("paper", 0.2):
            status = main
        elif (row.variant, row.alpha) == ("pointwise", 0.1):
            status = other
        rows.append(replace(row, status=status))
    return judge(findings.results, rows, findings.plan, findings.options)


@pytest.mark.parametrize(
    ("main", "other", "outcome"),
    [
        ("kept", "kept", "kept"),
        ("kept", "within", "kept"),
        ("within", "kept", "undecided"),
        ("kept", "broken", "mixed"),
        ("within", "broken", "mixed"),
        ("broken", "kept", "broken"),
        ("nothing", "kept", "nothing"),
    ],
)
def test_the_main_promise_decides(findings, main, other, outcome):
    """The headline is that of one promise fixed in advance; others that broke are not hidden."""
    verdict = judged(findings, main=main, other=other)
    assert (verdict.outcome, verdict.headline) == (outcome, HEADLINES[outcome])
    words = " ".join(verdict.findings)
    assert ("broken beyond" in words) == ("broken" in (main, other))
    if other == "broken":
        assert "pointwise, α = 0.1" in words


def test_the_tally(findings):
    """Every promise is counted once."""
    verdict = findings.verdict
    counts = Counter(row.status for row in findings.rows)
    assert f"Of {sum(counts.values()) - counts[None]} promises" in verdict.findings[-1]
    assert f"{counts['kept']} were kept" in verdict.findings[-1]


def test_limits(findings):
    """They say how the images were divided, and how the inputs were made."""
    plan = findings.plan
    assert "No photograph is on both sides" in findings.verdict.limits[0]
    shared = Plan(plan.calibration, [*plan.test, plan.calibration[0]], "given")
    assert "1 test images come from photographs that also" in limits_of(findings, shared)[0]
    unknown = [[i._replace(scene=None) for i in side] for side in (plan.calibration, plan.test)]
    assert "Nothing says which" in limits_of(findings, Plan(*unknown, "image"))[0]
    for made_by, words in (
        (None, "Inputs and truths were given"),
        (Degradation(noise=3, jpeg=50), "JPEG of quality 50"),
    ):
        result = copy(findings.results[0])
        result.made_by = made_by
        told = judge([result], findings.rows, plan, findings.options).limits
        assert any(words in sentence for sentence in told)


def limits_of(findings, plan):
    return judge(findings.results, findings.rows, plan, findings.options).limits
