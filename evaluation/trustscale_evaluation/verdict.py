"""What the numbers of an evaluation say, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trustscale_evaluation.plan import EvaluationPlan
from trustscale_evaluation.reduce import Cell
from trustscale_evaluation.run import Evaluation, Options
from trustscale_evaluation.tables import Row, Status
from trustscale_evaluation.variants import PAPER, SERVED
from trustscale_server.conformal.fidelity import clips
from trustscale_server.kinds.classes import class_in_words

VerdictOutcome = Literal["consistent", "undecided", "mixed", "broken", "nothing"]
"""Judged by one promise of each upscaler, fixed before measuring: the reference α under the first
settings. Of many promises some break by chance."""

HEADLINES: dict[VerdictOutcome, str] = {
    "consistent": "These {images} do not contradict the promise.",
    "undecided": "These {images} do not contradict the promise: the error was above α by no more "
    "than chance explains.",
    "mixed": "These {images} do not contradict the main promise. They do contradict "
    "another one: see the table.",
    "broken": "These {images} contradict the promise.",
    "nothing": "There are too few calibration images: nothing can be trusted.",
}

_SETTINGS = {SERVED: "as this service would serve it", PAPER: "in the paper's setting"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, its headline, the findings and their limits."""

    outcome: VerdictOutcome
    headline: str
    findings: Sequence[str]
    limits: Sequence[str]


def judge(
    results: Sequence[Evaluation], rows: Sequence[Row], plan: EvaluationPlan, options: Options
) -> Verdict:
    """Return the verdict over all upscalers, settings, classes of uploads and α."""
    judged = [row for row in rows if row.status is not None]
    counts = Counter(row.status for row in judged)
    by_promise = {(row.upscaler, row.variant, row.input_class, row.alpha): row for row in rows}
    main, findings = [], []
    for result in results:
        first = (result.name, result.main.name, None)
        main.append(by_promise[*first, options.reference_alpha])
        findings.append(_finding(main[-1], by_promise[*first, None], result))
    outcome = _outcome(main, counts)
    findings.append(_tally(counts, judged))
    images = f"{len(plan.test)} picture{'s' if len(plan.test) != 1 else ''}"
    headline = HEADLINES[outcome].format(images=images)
    return Verdict(outcome, headline, findings, limits(results, plan, options))


def _outcome(main: Sequence[Row], counts: Mapping[Status | None, int]) -> VerdictOutcome:
    statuses = {row.status for row in main}
    if "broken" in statuses:
        return "broken"
    if "nothing" in statuses:
        return "nothing"
    if counts["broken"]:
        return "mixed"
    return "undecided" if "within" in statuses else "consistent"


def _finding(row: Row, unmasked: Row, result: Evaluation) -> str:
    cell = result.main
    settings = _SETTINGS.get(row.variant, f"with the settings “{row.variant}”")
    if cell.request is None:
        settings = f"as the calibration {row.variant} serves it"
    head = (
        f"{row.upscaler}, {settings}: masks set from {_uploads(cell)} were tried on "
        f"{len(result.test)} other uploads."
    )
    if cell.request is not None and cell.request.fit_split.note:
        count = cell.request.fit_split.scenes
        fitted = f"{count} went into the fit of σ" if count else "none could be spared to fit σ"
        head += f" Of {len(set(result.plan.scenes))} scenes {fitted}."
    if row.status == "nothing":
        return f"{head} At α = {row.alpha:g} these are too few to trust anything."
    area, loss = row.quantities["area"], row.quantities["loss"]
    cut = (
        f", counted up to {cell.calibration.everything.bound:g},"
        if clips(cell.pipeline.fidelity)
        else ""
    )
    warned = f" It would have warned of {row.warned:.0%}." if row.warned and cell.classes else ""
    return (
        f"{head} At α = {row.alpha:g} the largest error inside the mask{cut} was {loss.mean:.3f} "
        f"on average (95 % interval {loss.low:.3f} to {loss.high:.3f}), where at most "
        f"{row.alpha:g} was promised, and {area.mean:.0%} of the picture was trusted. Without a "
        f"mask it would have been {unmasked.quantities['loss'].mean:.3f}.{warned}"
    )


def _uploads(cell: Cell) -> str:
    subset = cell.calibration.everything
    noun = "images" if subset.pairs == subset.n else f"uploads of {subset.n} scenes"
    classes = f" in {len(subset.classes)} classes" if len(subset.classes) > 1 else ""
    return f"{subset.pairs} {noun}{classes}"


def _tally(counts: Counter[Status | None], judged: Sequence[Row]) -> str:
    sentences = [
        f"{counts['consistent']} of {len(judged)} promises (settings, α, class) are consistent"
    ]
    if counts["within"]:
        sentences.append(
            f"{counts['within']} came out above α by no more than chance explains (95 % interval)"
        )
    if counts["broken"]:
        sentences.append(
            f"{counts['broken']} were broken beyond their 95 % interval "
            f"({_named(row for row in judged if row.status == 'broken')}), as 1 in 40 "
            "would be by chance where the true error is just α"
        )
    if counts["nothing"]:
        sentences.append(f"{counts['nothing']} trust nothing, for lack of images")
    return ", ".join(sentences) + "."


def _named(rows: Iterable[Row]) -> str:
    return "; ".join(
        f"{row.upscaler}, {row.variant}, "
        + (f"{class_in_words(row.input_class)}, " if row.input_class else "")
        + f"α = {row.alpha:g}: {row.quantities['loss'].mean:.3f}"
        for row in [*rows][:5]
    )


def limits(results: Sequence[Evaluation], plan: EvaluationPlan, options: Options) -> list[str]:
    """Return what these images can and cannot show."""
    main = results[0].main
    sentences = [_division(plan)] if main.request is not None else []
    sentences += [
        f"A σ of {result.name} was fitted on {len(result.fitted_on)} of these uploads: the areas "
        "under it are larger than they would be on others."
        for result in results
        if result.fitted_on
    ]
    sentences += [
        f"{result.added.share:.0%} of the detail that {result.name} adds is not in the truth."
        for result in results
        if result.added.share is not None
    ]
    sentences += [sentence for result in results if (sentence := _as_made(result)) is not None]
    alpha = options.reference_alpha
    shares_above = []
    for result in results:
        losses = result.main.quantities["loss"][:, result.main.place(alpha)]
        share = f"{int((losses > alpha).sum())} of {len(losses)}"
        shares_above.append(f"{share} test uploads of {result.name}")
    sentences.append(
        "The promise is an average over images and over calibrations, not one per image: at "
        f"α = {alpha:g} the largest error was above α in {' and '.join(shares_above)}."
    )
    min_alpha = max(answer.applicable.subset.curve.min_alpha for answer in main.answers)
    sentences.append(
        f"With {main.calibration.n} calibration scenes no α below {min_alpha:.4f} can be promised"
        f"{' for every class of uploads' if main.classes else ''}."
    )
    sentences += dict.fromkeys(map(_source, results))
    readers = (cell.pipeline.fidelity.reader for cell in results[0].cells)
    sentences += [
        f"D is a label that the {title} drew, and no person."
        for title in sorted({answer.title for answer in readers if answer is not None})
    ]
    sentences.append(
        "Whoever chooses settings by this report has used the test images up: the chosen settings "
        "need new calibration images, and new test images if their figures are to be quoted."
    )
    return sentences


def _as_made(result: Evaluation) -> str | None:
    """How the upscaler's own pictures agree with an upload, before they are aligned."""
    report = result.assessment
    if report is None or report.agreement is None:
        return None
    seams = f"; {report.seams}" if report.seams else ""
    return f"{result.name}, of one upload, before it is aligned: {report.agreement}{seams}."


def _division(plan: EvaluationPlan) -> str:
    if all(item.scene is None for item in (*plan.calibration, *plan.test)):
        return (
            "Nothing says which images show the same scene. If some do, the test flatters the "
            "calibration and the intervals are too narrow; sub-folders or a manifest.csv name them."
        )
    counts = (
        f"{len(plan.calibration)} calibration images come from {len(set(plan.scenes))} "
        f"photographs, {len(plan.test)} test images from {len(set(plan.test_scenes))}."
    )
    if plan.shared:
        return (
            f"{counts} The division was given: {plan.shared} test images come from photographs "
            "that also calibrate. That shows the promise for new images from this pool of "
            "photographs, not for new photographs."
        )
    return (
        f"{counts} No photograph is on both sides. Images of one photograph are alike, so each "
        "photograph counts once, with the mean of its images; the intervals draw whole photographs."
    )


def _source(result: Evaluation) -> str:
    if result.made_by is None:
        return "Inputs and truths were given: the result speaks about inputs like these."
    return (
        f"The inputs were made from the truths by {result.made_by.describe(result.upscaler.scale)}:"
        " the result speaks about inputs made in this way, not about those of a camera."
    )
