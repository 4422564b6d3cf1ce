"""The report: what the numbers say as text, one HTML page, and tables and figures as files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from trustscale_evaluation.plan import PAPER, SERVED, EvaluationPlan
from trustscale_evaluation.plots import Record, ReportPicture
from trustscale_evaluation.reduce import Cell
from trustscale_evaluation.run import TABLES, Evaluation, Options
from trustscale_evaluation.tables import Row, Status, as_records
from trustscale_server import __version__
from trustscale_server.conformal.fidelity import ErrorUnit, clips
from trustscale_server.images.kinds import class_in_words

REPORT, SUMMARY, _FIGURES = "report.html", "report.json", "figures"
_STATUS = {
    "consistent": "not contradicted",
    "within": "within chance",
    "broken": "broken",
    "nothing": "nothing trusted",
}
_WORTH = 0.02
"""Share of the picture that is worth another generation."""

_UNITS: Final[Mapping[ErrorUnit, str]] = {
    "lab": "colour differences (L1 in normalised CIELAB): 0 is exact, and 0.01 is one unit of "
    "lightness L*, or two and a half of a* or b*",
    "stretch": "differences of values: 0 is exact, and 0.01 is a hundredth of the stretch, from "
    "its lowest value to its highest",
    "ssim": "differences of structure, (1 − SSIM)/2: 0 is exact, and 0.5 is unrelated",
    "label": "1 where the meaning differs, and 0 elsewhere",
    "words": "shares of words that are read otherwise",
}
"""What the numbers of an error mean."""

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


@dataclass(frozen=True, slots=True, repr=False)  # asyncio.run writes results out when it ends
class Findings:
    """Everything that the report shows."""

    plan: EvaluationPlan
    options: Options
    results: Sequence[Evaluation]
    rows: Sequence[Row]
    pictures: Sequence[ReportPicture]
    verdict: Verdict
    skipped: Sequence[dict[str, str]]


def write(findings: Findings, out: Path) -> dict[str, Any]:
    """Write everything into a folder, and return the report for machines."""
    tables = _tables(findings)
    summary = _summary(findings, tables)
    (out / _FIGURES).mkdir(parents=True, exist_ok=True)
    for picture in findings.pictures:
        stem = out / _FIGURES / picture.name
        suffix, drawing = picture.file
        stem.with_name(f"{picture.name}.{suffix}").write_bytes(drawing)
        stem.with_name(f"{picture.name}.csv").write_text(as_csv(picture.records), "utf-8")
    for name, records in tables.items():
        if records:
            (out / f"{name}.csv").write_text(as_csv(records), "utf-8")
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (out / SUMMARY).write_text(text + "\n", "utf-8")
    (out / REPORT).write_text(render(findings), "utf-8")
    return summary


def as_csv(records: Sequence[Record]) -> str:
    """Write records as CSV with Unix line ends."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_plain, records))
    return out.getvalue()


def _plain(record: Record) -> Record:
    """The record as JSON can hold it: null for NaN, "inf" and "-inf"."""
    plain = dict(record)
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            plain[name] = None if math.isnan(value) else str(value)
    return plain


def _summary(findings: Findings, tables: dict[str, list[Record]]) -> dict[str, Any]:
    plan, options = findings.plan, findings.options
    return {
        "software": f"trustscale {__version__}",
        "outcome": findings.verdict.outcome,
        "headline": findings.verdict.headline,
        "findings": list(findings.verdict.findings),
        "limits": list(findings.verdict.limits),
        "calibration_images": len(plan.calibration),
        "test_images": len(plan.test),
        "split": plan.how,
        "test_images_of_calibrating_scenes": plan.shared,
        "reference_alpha": options.reference_alpha,
        "seed": options.seed,
        "upscalers": [
            {
                "name": result.name,
                "fingerprint": result.upscaler.fingerprint,
                "images_generated": result.generated,
                "generation_seconds": round(result.seconds, 3),
                "agreement": result.probe
                and result.probe.agreement
                and asdict(result.probe.agreement),
                "seam": result.probe and result.probe.seam,
                "variants": [as_named(cell) for cell in result.cells],
            }
            for result in findings.results
        ],
        "skipped": list(findings.skipped),
        **{name: list(map(_plain, records)) for name, records in tables.items()},
    }


def _tables(findings: Findings) -> dict[str, list[Record]]:
    def of(table: str) -> list[Record]:
        rows = ((result.name, row) for result in findings.results for row in result.tables[table])
        return [{"upscaler": name, **row} for name, row in rows]

    return {"table": as_records(findings.rows), **{name: of(name) for name in TABLES}}


def samples_advice(rows: Sequence[dict[str, Any]], alpha: float) -> str | None:
    """Say which M is enough, in one sentence; None with nothing to choose from."""
    areas = {row["samples"]: row["trusted_area"] for row in rows if row["alpha"] == alpha}
    if len(areas) < 2:
        return None
    enough = min(m for m, area in areas.items() if area >= max(areas.values()) - _WORTH)
    areas_in_words = ", ".join(f"M = {m} trusts {area:.0%}" for m, area in sorted(areas.items()))
    return f"At α = {alpha:g} {areas_in_words} of the picture: {enough} is enough."


def render(findings: Findings) -> str:
    """Return the report as one HTML page."""
    import jinja2  # noqa: PLC0415 - an optional dependency, imported where it is used

    source = resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(
        version=__version__,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        findings=findings,
        verdict=findings.verdict,
        plan=findings.plan,
        options=findings.options,
        status_words=_STATUS,
        class_in_words=class_in_words,
        samples_advice=samples_advice,
        as_named=as_named,
        errors=errors_in_words(findings),
    )


def errors_in_words(findings: Findings) -> str:
    """Return what the errors of all settings are; each metric is named where units differ."""
    units: dict[ErrorUnit, set[str]] = {}
    for result in findings.results:
        for cell in result.cells:
            settings = cell.pipeline.fidelity
            units.setdefault(settings.spec.error_unit, set()).add(settings.metric)
    if len(units) == 1:
        return f"Errors are {_UNITS[next(iter(units))]}."
    return " ".join(
        f"Errors of {' and '.join(sorted(metrics))} are {_UNITS[unit]}."
        for unit, metrics in units.items()
    )


def as_named(cell: Cell) -> dict[str, Any]:
    """Return the settings of a variant as JSON values; a fitted σ by name."""
    pipeline, guarantee = cell.pipeline, cell.calibration.guarantee.summary()
    settings = pipeline.model_dump(mode="json")
    indecision = settings["indecision"]
    indecision["fit"] = pipeline.indecision.fit and pipeline.indecision.fit.name
    indecision["fits"] = [fit.name for fit in pipeline.indecision.fits]
    return {
        "name": cell.name,
        "note": cell.variant.note,
        "calibration": None if cell.request is not None else cell.calibration.id,
        "samples": pipeline.samples,
        "prediction": pipeline.prediction,
        "indecision": indecision,
        "fidelity": settings["fidelity"],
        "guarantee": guarantee.model_dump(mode="json", exclude_none=True),
        "input_rule": pipeline.input_rule,
        "scenes": cell.calibration.n,
    }


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
        findings.append(_of(main[-1], by_promise[*first, None], result))
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


def _of(row: Row, unmasked: Row, result: Evaluation) -> str:
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
    above = []
    for result in results:
        losses = result.main.quantities["loss"][:, result.main.place(alpha)]
        share = f"{int((losses > alpha).sum())} of {len(losses)}"
        above.append(f"{share} test uploads of {result.name}")
    sentences.append(
        "The promise is an average over images and over calibrations, not one per image: at "
        f"α = {alpha:g} the largest error was above α in {' and '.join(above)}."
    )
    least = max(answer.applicable.subset.curve.min_alpha for answer in main.answers)
    sentences.append(
        f"With {main.calibration.n} calibration scenes no α below {least:.4f} can be promised"
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
    report = result.probe
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
