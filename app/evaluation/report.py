"""The report: one HTML file that needs nothing else, and every table and figure as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from app import __version__
from app.calibration.price import advice
from app.conformal.annotator import Settings as AnnotatorSettings
from app.evaluation.bootstrap import Interval
from app.evaluation.comparison import MISS_ALPHA, WEIGHTED_ALPHAS
from app.evaluation.conduct import Findings
from app.evaluation.rules import RULES
from app.evaluation.run import Evaluated
from app.evaluation.tables import Row, as_records
from app.evaluation.variants import Variant

TABLE, PRICE, REPORT = "table.csv", "price.csv", "report.html"
SUMMARY, FIGURES = "report.json", "figures"
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
        stem.with_name(f"{picture.name}.csv").write_text(as_csv(picture.rows), "utf-8")
    baselines = [record for result in findings.results for record in baseline_records(result)]
    tables = {
        TABLE: as_records(findings.rows),
        PRICE: price_records(findings),
        "baselines.csv": baselines,
    }
    for name, records in tables.items():
        if records:
            table: list[Sequence[object]] = [list(records[0])]
            table += [list(record.values()) for record in records]
            (out / name).write_text(as_csv(table), "utf-8")
    text = json.dumps(summary(findings), indent=2, ensure_ascii=False, allow_nan=False)
    (out / SUMMARY).write_text(text + "\n", "utf-8")
    (out / REPORT).write_text(render(findings), "utf-8")


def as_csv(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV with Unix line ends."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


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
                "name": result.upscaler,
                "fingerprint": result.fingerprint,
                "images_generated": result.generated,
                "generation_seconds": round(result.seconds, 3),
                "variants": [as_named(variant) for variant in result.variants],
            }
            for result in findings.results
        ],
        "skipped": list(findings.skipped),
        "table": as_records(findings.rows),
        "price": price_records(findings),
        "baselines": [r for result in findings.results for r in baseline_records(result)],
    }


def price_records(findings: Findings) -> list[dict[str, object]]:
    """What so many generations cost and let one trust, for every upscaler."""
    return [
        {"upscaler": result.upscaler, **row} for result in findings.results for row in result.price
    ]


def baseline_records(result: Evaluated) -> list[dict[str, object]]:
    """What the baselines promise, whether that can be relied on, and what came."""
    compared = result.baselines
    if compared is None:
        return []
    whole = result.cell(result.variants[0].name, "fidelity").column("error")[:, -1]
    records: list[dict[str, object]] = [
        _baseline(result, "none", "nothing", "none", None, None, float(whole.mean()), 1.0),
        _baseline(
            result,
            "intervals (Angelopoulos et al. 2022b)",
            "share of values outside their interval",
            "proven, with high probability",
            MISS_ALPHA,
            compared.intervals.scale,
            float(compared.outside.mean()),
            float(compared.width.mean()),
        ),
    ]
    records += [
        _baseline(
            result,
            "continuous mask (Kutiel et al. 2023)",
            "weighted mean error",
            "claimed, disproven (paper, Appendix B)",
            alpha,
            float(compared.weighted[k]),
            float(compared.weighted_error[:, k].mean()),
            float(compared.weight[:, k].mean()),
        )
        for k, alpha in enumerate(WEIGHTED_ALPHAS)
    ]
    return records


def _baseline(
    result: Evaluated,
    method: str,
    keeps: str,
    guarantee: str,
    alpha: float | None,
    scale: float | None,
    realised: float,
    size: float,
) -> dict[str, object]:
    shown = scale if scale is None or np.isfinite(scale) else str(scale)
    return {
        "upscaler": result.upscaler,
        "method": method,
        "keeps_small": keeps,
        "guarantee": guarantee,
        "alpha": alpha,
        "scale": shown,
        "realised": realised,
        "mean_width_or_weight": size,
    }


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
        verdict=findings.verdict,
        plan=findings.plan,
        options=findings.options,
        annotator=AnnotatorSettings().title,
        skipped=findings.skipped,
        rules={rule.name: rule.title for rule in RULES},
        upscalers=[_section(findings, result) for result in findings.results],
    )


def _section(findings: Findings, result: Evaluated) -> dict[str, Any]:
    """What the page shows of one upscaler."""
    rows = [row for row in findings.rows if row.upscaler == result.upscaler]
    first = result.variants[0].name
    mine = {rule.name: _of(rows, first, rule.name) for rule in RULES}
    return {
        "name": result.upscaler,
        "fingerprint": result.fingerprint,
        "variants": [_variant(as_named(variant)) for variant in result.variants],
        "first": first,
        "main": [
            {
                "alpha": "without the method" if color.alpha is None else f"α = {color.alpha:g}",
                "cells": [*_cells(semantic), *_cells(color)],
            }
            for color, semantic in zip(mine["fidelity"], mine["semantic"], strict=True)
        ],
        "certain": [_line(row) for row in mine["high_probability"] if row.alpha is not None],
        "rows": [_line(row) for row in rows if row.alpha is not None],
        "baselines": baseline_records(result),
        "price": [_priced(row) for row in result.price],
        "advice": advice(result.price, findings.options.reference_alpha),
        "pictures": sorted(
            (picture for picture in findings.pictures if picture.upscaler == result.upscaler),
            key=lambda picture: picture.name,
        ),
    }


def _priced(row: Mapping[str, Any]) -> list[str]:
    """A line of the price table."""
    seconds, money = row["seconds"], row["money"]
    return [
        f"{row['samples']}",
        f"{row['alpha']:g}",
        f"{row['trusted_area']:.3f}",
        f"{row['calls']}",
        "–" if seconds is None else f"{seconds:.2f}",
        "–" if money is None else f"{money:.4g}",
    ]


def _of(rows: Sequence[Row], variant: str, rule: str) -> list[Row]:
    return [row for row in rows if (row.variant, row.rule) == (variant, rule)]


def _cells(row: Row) -> list[dict[str, str]]:
    quantities = row.quantities
    return [
        shown(quantities["psnr"], 2),
        shown(quantities["psnr_lab"], 2),
        shown(quantities["error"], 3),
        shown(quantities["area"], 2),
    ]


def _line(row: Row) -> dict[str, Any]:
    return {
        "variant": row.variant,
        "rule": row.rule,
        "alpha": f"{row.alpha:g}",
        "threshold": f"{row.threshold:.3g}",
        "realised": shown(row.realised, 3),
        "promise": f"{row.promise[0]:.3f} to {row.promise[1]:.3f}" if row.promise else "",
        "area": shown(row.quantities["area"], 2),
        "psnr": shown(row.quantities["psnr"], 2),
        "status": row.status,
        "status_words": STATUS.get(row.status or "", ""),
    }


def shown(interval: Interval, digits: int) -> dict[str, str]:
    """A mean and its interval for the page; a dash where there was nothing to average."""
    if not interval.images:
        return {"mean": "–", "ends": ""}
    return {
        "mean": f"{interval.mean:.{digits}f}",
        "ends": f"{interval.low:.{digits}f} to {interval.high:.{digits}f}",
    }


def as_named(variant: Variant) -> dict[str, Any]:
    """The settings of a variant as JSON values; of a fitted σ the name."""
    fields = variant.model_dump(mode="json")
    fit = fields["indecision"]["fit"]
    fields["indecision"]["fit"] = fit and fit["name"]
    return fields


def _variant(fields: Mapping[str, Any]) -> dict[str, Any]:
    def listed(part: str) -> str:
        settings = {key: value for key, value in fields[part].items() if value is not None}
        return ", ".join(f"{key} {value}" for key, value in settings.items())

    return {**fields, "indecision": listed("indecision"), "fidelity": listed("fidelity")}
