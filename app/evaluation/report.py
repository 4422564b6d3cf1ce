"""The report: one HTML file that needs nothing else, and every table and figure as files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from app import __version__
from app.conformal.annotator import AnnotatorSettings
from app.evaluation.conduct import Findings
from app.evaluation.plots import Record
from app.evaluation.price import advice
from app.evaluation.reduce import FIDELITY, RULES
from app.evaluation.run import Evaluation
from app.evaluation.tables import as_records
from app.evaluation.variants import Variant

REPORT, SUMMARY, FIGURES = "report.html", "report.json", "figures"
STATUS = {
    "kept": "kept",
    "within": "within chance",
    "broken": "broken",
    "nothing": "nothing trusted",
}


def write(findings: Findings, out: Path) -> None:
    """Write everything into a folder, which is made if it is missing."""
    (out / FIGURES).mkdir(parents=True, exist_ok=True)
    for picture in findings.pictures:
        stem = out / FIGURES / picture.name
        stem.with_name(f"{picture.name}.svg").write_text(picture.file, "utf-8")
        stem.with_name(f"{picture.name}.png").write_bytes(picture.png)
        stem.with_name(f"{picture.name}.csv").write_text(as_csv(picture.records), "utf-8")
    for name, records in _tables(findings).items():
        if records:
            (out / f"{name}.csv").write_text(as_csv(records), "utf-8")
    text = json.dumps(summary(findings), indent=2, ensure_ascii=False, allow_nan=False)
    (out / SUMMARY).write_text(text + "\n", "utf-8")
    (out / REPORT).write_text(render(findings), "utf-8")


def as_csv(records: Sequence[Record]) -> str:
    """Records as CSV with Unix line ends."""
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


def summary(findings: Findings) -> dict[str, Any]:
    """The report for machines."""
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
        "test_images_of_calibrating_groups": plan.shared,
        "reference_alpha": options.reference_alpha,
        "delta": options.delta,
        "seed": options.seed,
        "upscalers": [
            {
                "name": result.name,
                "fingerprint": result.upscaler.fingerprint,
                "images_generated": result.generated,
                "generation_seconds": round(result.seconds, 3),
                "variants": [as_named(variant) for variant in result.variants],
            }
            for result in findings.results
        ],
        "skipped": list(findings.skipped),
        **{name: list(map(_plain, records)) for name, records in _tables(findings).items()},
    }


def _tables(findings: Findings) -> dict[str, list[Record]]:
    """The tables by name, each as flat records: CSV files, and lists in the JSON."""
    return {
        "table": as_records(findings.rows),
        "price": [
            {"upscaler": result.name, **row}
            for result in findings.results
            for row in result.prices()
        ],
        "baselines": [
            {"upscaler": result.name, **row}
            for result in findings.results
            for row in _baselines(result)
        ],
    }


def _baselines(result: Evaluation) -> list[Record]:
    if result.baselines is None:
        return []
    return result.baselines.records(float(result.cell(FIDELITY).quantities["error"][:, -1].mean()))


def render(findings: Findings) -> str:
    """The report as one HTML page without references to anything outside it."""
    import jinja2  # noqa: PLC0415 - an optional dependency, imported where it is used

    source = resources.files("app.evaluation").joinpath("report.html.j2").read_text("utf-8")
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
        annotator=AnnotatorSettings().title,
        rules={rule.name: rule.title for rule in RULES},
        status_words=STATUS,
        advice=advice,
        baselines=_baselines,
        as_named=as_named,
    )


def as_named(variant: Variant) -> dict[str, Any]:
    """The settings of a variant as JSON values; of a fitted σ the name."""
    fields = variant.model_dump(mode="json")
    fit = fields["indecision"]["fit"]
    fields["indecision"]["fit"] = fit and fit["name"]
    return fields
