"""What the numbers say, in plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.conformal.fidelity import clips
from app.evaluation.plan import Plan
from app.evaluation.reduce import Cell
from app.evaluation.run import Evaluation, Options
from app.evaluation.tables import Row, Status
from app.evaluation.variants import PAPER, SERVED
from app.images.compression import class_in_words

Outcome = Literal["kept", "undecided", "mixed", "broken", "nothing"]
"""Judged by one promise of each upscaler, fixed before measuring: the reference α under the first
settings. Of many promises some break by chance."""

HEADLINES: dict[Outcome, str] = {
    "kept": "The promise was kept.",
    "undecided": "The promise was kept as far as these images can show.",
    "mixed": "The main promise was kept, but not every other one.",
    "broken": "The promise was not kept.",
    "nothing": "There are too few calibration images: nothing can be trusted.",
}

_SETTINGS = {SERVED: "as this service would serve it", PAPER: "in the paper's setting"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, its headline, the findings and their limits."""

    outcome: Outcome
    headline: str
    findings: Sequence[str]
    limits: Sequence[str]


def judge(
    results: Sequence[Evaluation], rows: Sequence[Row], plan: Plan, options: Options
) -> Verdict:
    """The verdict over all upscalers, settings, classes of uploads and α."""
    judged = [row for row in rows if row.status is not None]
    counts = Counter(row.status for row in judged)
    found = {(row.upscaler, row.variant, row.input_class, row.alpha): row for row in rows}
    main, findings = [], []
    for result in results:
        first = (result.name, result.main.name, None)
        main.append(found[*first, options.reference_alpha])
        findings.append(_of(main[-1], found[*first, None], result))
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


def _of(row: Row, whole: Row, result: Evaluation) -> str:
    cell = result.main
    how = _SETTINGS.get(row.variant, f"with the settings “{row.variant}”")
    if cell.request is None:
        how = f"as the calibration {row.variant} serves it"
    head = (
        f"{row.upscaler}, {how}: masks set from {_uploads(cell)} were tried on "
        f"{len(result.test)} other uploads."
    )
    if cell.request is not None and cell.request.shares.note:
        count = cell.request.shares.scenes
        fitted = f"{count} went into the fit of σ" if count else "none could be spared to fit σ"
        head += f" Of {len(set(result.plan.scenes))} scenes {fitted}."
    if row.status == "nothing":
        return f"{head} At α = {row.alpha:g} these are too few to trust anything."
    area, loss = row.quantities["area"], row.quantities["loss"]
    cut = f", counted up to {cell.calibration.bound:g}," if clips(cell.pipeline.fidelity) else ""
    warned = f" It would have warned of {row.warned:.0%}." if row.warned and cell.classes else ""
    return (
        f"{head} At α = {row.alpha:g} the largest error inside the mask{cut} was {loss.mean:.3f} "
        f"on average (95 % interval {loss.low:.3f} to {loss.high:.3f}), where at most "
        f"{row.alpha:g} was promised, and {area.mean:.0%} of the picture was trusted. Without a "
        f"mask it would have been {whole.quantities['loss'].mean:.3f}.{warned}"
    )


def _uploads(cell: Cell) -> str:
    made = cell.calibration
    what = "images" if made.pairs == made.n else f"uploads of {made.n} scenes"
    classes = f" in {len(made.classes)} classes" if len(made.classes) > 1 else ""
    return f"{made.pairs} {what}{classes}"


def _tally(counts: Counter[Status | None], judged: Sequence[Row]) -> str:
    parts = [f"Of {len(judged)} promises (settings, α, class) {counts['kept']} were kept"]
    if counts["within"]:
        parts.append(
            f"{counts['within']} came out above α by no more than chance explains (95 % interval)"
        )
    if counts["broken"]:
        parts.append(
            f"{counts['broken']} were broken beyond their 95 % interval "
            f"({_named(row for row in judged if row.status == 'broken')}), as 1 in 40 "
            "would be by chance where the true error is just α"
        )
    if counts["nothing"]:
        parts.append(f"{counts['nothing']} trust nothing, for lack of images")
    return ", ".join(parts) + "."


def _named(rows: Iterable[Row]) -> str:
    return "; ".join(
        f"{row.upscaler}, {row.variant}, "
        + (f"{class_in_words(row.input_class)}, " if row.input_class else "")
        + f"α = {row.alpha:g}: {row.quantities['loss'].mean:.3f}"
        for row in [*rows][:5]
    )


def limits(results: Sequence[Evaluation], plan: Plan, options: Options) -> list[str]:
    """What these images can and cannot show."""
    main = results[0].main
    found = [_division(plan)] if main.request is not None else []
    found += [
        f"A σ of {result.name} was fitted on {len(result.fitted_on)} of these uploads: the areas "
        "under it are larger than they would be on others."
        for result in results
        if result.fitted_on
    ]
    losses = main.quantities["loss"][:, main.place(options.reference_alpha)]
    above = int((losses > options.reference_alpha).sum())
    found.append(
        "The promise is an average over images and over calibrations, not one per image: at "
        f"α = {options.reference_alpha:g} the largest error was above α in {above} of "
        f"{len(losses)} test uploads."
    )
    least = max(one.subject.part.curve.min_alpha for one in main.answers)
    found.append(
        f"With {main.calibration.n} calibration scenes no α below {least:.4f} can be promised"
        f"{' for every class of uploads' if main.classes else ''}."
    )
    found.append(_source(results[0]))
    rules = (cell.pipeline.fidelity.annotator for cell in results[0].cells)
    found += [
        f"Where D is a label, a rule drew it, the {title}, and no person."
        for title in sorted({rule.title for rule in rules if rule is not None})
    ]
    found.append(
        "Whoever chooses settings by this report has used the test images up: the chosen settings "
        "need new calibration images, and new test images if their figures are to be quoted."
    )
    return found


def _division(plan: Plan) -> str:
    if all(item.scene is None for item in (*plan.calibration, *plan.test)):
        return (
            "Nothing says which images show the same scene. If some do, the test flatters the "
            "calibration and the intervals are too narrow; sub-folders or a manifest.csv name them."
        )
    what = (
        f"{len(plan.calibration)} calibration images come from {len(set(plan.scenes))} "
        f"photographs, {len(plan.test)} test images from {len(set(plan.test_scenes))}."
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


def _source(result: Evaluation) -> str:
    if result.made_by is None:
        return "Inputs and truths were given: the result speaks about inputs like these."
    return (
        f"The inputs were made from the truths by {result.made_by.describe(result.upscaler.scale)}:"
        " the result speaks about inputs made in this way, not about those of a camera."
    )
