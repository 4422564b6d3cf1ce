"""The report: one HTML page, and tables and figures as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

from trustscale_evaluation.plan import EvaluationPlan
from trustscale_evaluation.records import Record, as_csv, json_record
from trustscale_evaluation.reduce import Cell
from trustscale_evaluation.report_picture import ReportPicture
from trustscale_evaluation.run import TABLES, Evaluation, Options
from trustscale_evaluation.tables import Row, as_records
from trustscale_evaluation.verdict import Verdict
from trustscale_server import __version__
from trustscale_server.conformal.error_metrics import ErrorUnit
from trustscale_server.kinds.classes import class_in_words

REPORT, SUMMARY = "report.html", "report.json"

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
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for picture in findings.pictures:
        suffix, drawing = picture.file
        (figures / f"{picture.name}.{suffix}").write_bytes(drawing)
        (figures / f"{picture.name}.csv").write_text(as_csv(picture.records), "utf-8")
    for name, records in tables.items():
        if records:
            (out / f"{name}.csv").write_text(as_csv(records), "utf-8")
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (out / SUMMARY).write_text(text + "\n", "utf-8")
    (out / REPORT).write_text(render(findings), "utf-8")
    return summary


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
                "agreement": result.assessment
                and result.assessment.agreement
                and asdict(result.assessment.agreement),
                "seam": result.assessment and result.assessment.seam,
                "variants": [as_named(cell) for cell in result.cells],
            }
            for result in findings.results
        ],
        "skipped": list(findings.skipped),
        **{name: list(map(json_record, records)) for name, records in tables.items()},
    }


def _tables(findings: Findings) -> dict[str, list[Record]]:
    tables = {"table": as_records(findings.rows)}
    for name in TABLES:
        tables[name] = [
            {"upscaler": result.name, **row}
            for result in findings.results
            for row in result.tables[name]
        ]
    return tables


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
