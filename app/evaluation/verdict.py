"""What the numbers say, in words for a reader who will not study them. Every word is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.conformal.annotator import AnnotatorSettings
from app.evaluation.plan import Plan
from app.evaluation.reduce import FIDELITY
from app.evaluation.run import Evaluation, Options
from app.evaluation.tables import Row, Status
from app.images.degrade import Degradation

Outcome = Literal["kept", "undecided", "mixed", "broken", "nothing"]
"""Judged by the main promise of each upscaler, which is fixed before anything is measured: D in
expectation at the reference α, under the first settings. Of many promises some break by chance."""

HEADLINES: dict[Outcome, str] = {
    "kept": "The promise was kept.",
    "undecided": "The promise was kept as far as these images can tell.",
    "mixed": "The main promise was kept, but not every other one.",
    "broken": "The promise was not kept.",
    "nothing": "There are too few calibration images: nothing can be trusted.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, its headline, what was found, and what it cannot show."""

    outcome: Outcome
    headline: str
    findings: Sequence[str]
    limits: Sequence[str]


def judge(
    results: Sequence[Evaluation], rows: Sequence[Row], plan: Plan, options: Options
) -> Verdict:
    """The verdict over all upscalers, settings, rules and α."""
    judged = [row for row in rows if row.status is not None]
    counts = Counter(row.status for row in judged)
    found = {(row.upscaler, row.variant, row.rule, row.alpha): row for row in rows}
    main, findings = [], []
    for result in results:
        first = (result.name, result.variants[0].name, "fidelity")
        main.append(found[*first, options.reference_alpha])
        findings.append(_of(main[-1], found[*first, None], plan))
    outcome = _outcome(main, counts)
    findings.append(_tally(counts, judged))
    return Verdict(outcome, HEADLINES[outcome], findings, limits(results, plan, options))


def _outcome(main: Sequence[Row], counts: Mapping[Status | None, int]) -> Outcome:
    statuses = {row.status for row in main}
    if "broken" in statuses:
        return "broken"
    if "nothing" in statuses:
        return "nothing"
    if counts["broken"]:
        return "mixed"
    return "undecided" if "within" in statuses else "kept"


def _of(row: Row, whole: Row, plan: Plan) -> str:
    head = (
        f"{row.upscaler} with the settings “{row.variant}”: masks set from {len(plan.calibration)} "
        f"images were tried on {len(plan.test)} others."
    )
    if row.status == "nothing":
        return f"{head} At α = {row.alpha:g} these are too few to trust anything."
    area = row.quantities["area"]
    realised = row.realised
    return (
        f"{head} At α = {row.alpha:g} the largest error inside the mask was {realised.mean:.3f} on "
        f"average (95 % interval {realised.low:.3f} to {realised.high:.3f}), where at most "
        f"{row.alpha:g} was promised, and {area.mean:.0%} of the picture was trusted. Without a "
        f"mask it would have been {whole.realised.mean:.3f}."
    )


def _tally(counts: Counter[Status | None], judged: Sequence[Row]) -> str:
    parts = [f"Of {len(judged)} promises (settings × rule × α) {counts['kept']} were kept"]
    if counts["within"]:
        parts.append(
            f"{counts['within']} came out above α by no more than chance explains (95 % interval)"
        )
    if counts["broken"]:
        worst = [row for row in judged if row.status == "broken"]
        named = "; ".join(
            f"{row.upscaler}, {row.variant}, {row.rule}, α = {row.alpha:g}: {row.realised.mean:.3f}"
            for row in worst[:5]
        )
        parts.append(
            f"{counts['broken']} were broken beyond their 95 % interval ({named}), as 1 in 40 "
            "would be by chance where the true error is just α"
        )
    if counts["nothing"]:
        parts.append(f"{counts['nothing']} trust nothing, for lack of images")
    return ", ".join(parts) + "."


def limits(results: Sequence[Evaluation], plan: Plan, options: Options) -> list[str]:
    """What these images can and cannot show."""
    found = [_division(plan)]
    found += [
        f"A σ of {result.name} was fitted on {len(result.fitted_on)} of these images: the areas "
        "under it are larger than they would be on others."
        for result in results
        if result.fitted_on
    ]
    cell = results[0].cell(FIDELITY)
    losses = cell.quantities["error"][:, cell.place(options.reference_alpha)]
    above = int((losses > options.reference_alpha).sum())
    found.append(
        f"The promise is an average over images and over calibrations, not one per image: at "
        f"α = {options.reference_alpha:g} the largest error was above α in {above} of "
        f"{len(losses)} test images."
    )
    found.append(
        f"With n = {len(set(plan.scenes))} calibration scenes no α below "
        f"B/(n + 1) = {cell.bound / (len(set(plan.scenes)) + 1):.4f} can be promised."
    )
    found.append(_source(results, plan, options.degradation))
    found.append(
        "The semantic columns rest on the labels of a rule, the "
        f"{AnnotatorSettings().title}, not on people."
    )
    found.append(
        "Whoever chooses settings by this report has used the test images up: the chosen settings "
        "need new calibration images, and new test images if their figures are to be quoted."
    )
    return found


def _division(plan: Plan) -> str:
    if all(item.group is None for item in (*plan.calibration, *plan.test)):
        return (
            "Nothing says which images show the same scene. If some do, the test flatters the "
            "calibration and the intervals are too narrow; sub-folders or a manifest.csv name them."
        )
    what = (
        f"{len(plan.calibration)} calibration images come from {len(set(plan.scenes))} "
        f"photographs, {len(plan.test)} test images from {len(set(plan.test_groups))}."
    )
    if plan.shared:
        return (
            f"{what} The division was given: {plan.shared} test images come from photographs that "
            "also calibrate. That shows the promise for new images from this pool of photographs, "
            "not for new photographs."
        )
    return (
        f"{what} No photograph is on both sides. Images of one photograph are alike, so each "
        "photograph counts once, with the mean of its images; the intervals draw whole photographs."
    )


def _source(results: Sequence[Evaluation], plan: Plan, degradation: Degradation | None) -> str:
    items = [*plan.calibration, *plan.test]
    if all(item.x for item in items):
        return "Inputs and truths were given: the result speaks about inputs like these."
    steps = (degradation or Degradation()).in_words(results[0].upscaler.scale)
    return (
        f"The inputs were made from the truths by {steps}: the result speaks about inputs made in "
        "this way, not about those of a camera."
    )
