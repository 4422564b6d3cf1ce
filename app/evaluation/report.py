"""The report: one self-contained HTML file, and every table and figure as files."""

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
from app.evaluation.conduct import Findings
from app.evaluation.plots import Record
from app.evaluation.reduce import Cell
from app.evaluation.run import TABLES
from app.evaluation.tables import as_records
from app.images.compression import class_in_words

REPORT, SUMMARY, FIGURES = "report.html", "report.json", "figures"
STATUS = {
    "kept": "kept",
    "within": "within chance",
    "broken": "broken",
    "nothing": "nothing trusted",
}
_WORTH = 0.02
"""Share of the picture that is worth another generation."""


def write(findings: Findings, out: Path) -> dict[str, Any]:
    """Write everything into a folder, and return the report for machines."""
    tables = _tables(findings)
    shown = _summary(findings, tables)
    (out / FIGURES).mkdir(parents=True, exist_ok=True)
    for picture in findings.pictures:
        stem = out / FIGURES / picture.name
        suffix, drawing = picture.file
        stem.with_name(f"{picture.name}.{suffix}").write_bytes(drawing)
        stem.with_name(f"{picture.name}.csv").write_text(as_csv(picture.records), "utf-8")
    for name, records in tables.items():
        if records:
            (out / f"{name}.csv").write_text(as_csv(records), "utf-8")
    text = json.dumps(shown, indent=2, ensure_ascii=False, allow_nan=False)
    (out / SUMMARY).write_text(text + "\n", "utf-8")
    (out / REPORT).write_text(render(findings), "utf-8")
    return shown


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


def advice(rows: Sequence[dict[str, Any]], alpha: float) -> str | None:
    """Which M is enough, in one sentence; None with nothing to choose from."""
    areas = {row["samples"]: row["trusted_area"] for row in rows if row["alpha"] == alpha}
    if len(areas) < 2:
        return None
    enough = min(m for m, area in areas.items() if area >= max(areas.values()) - _WORTH)
    areas_in_words = ", ".join(f"M = {m} trusts {area:.0%}" for m, area in sorted(areas.items()))
    return f"At α = {alpha:g} {areas_in_words} of the picture: {enough} is enough."


def render(findings: Findings) -> str:
    """The report as one HTML page."""
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
        status_words=STATUS,
        class_in_words=class_in_words,
        advice=advice,
        as_named=as_named,
    )


def as_named(cell: Cell) -> dict[str, Any]:
    """The settings of a variant as JSON values; a fitted σ by name."""
    pipeline, guarantee = cell.pipeline, cell.calibration.guarantee.facts()
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
        "guarantee": {name: value for name, value in guarantee.items() if value is not None},
        "input_rule": pipeline.input_rule,
        "scenes": cell.calibration.n,
    }
