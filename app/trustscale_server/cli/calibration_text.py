"""Calibrations in words: in lists and whole, what activating one changes, what to expect of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.guarantee_kinds import guarantee_of
from trustscale_server.calibration.priority import EVERY
from trustscale_server.cli.job_text import progress_of
from trustscale_server.cli.output import output
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.kinds.classes import class_in_words
from trustscale_server.serving.caption import about

# Trusted areas at the default α.
_GOOD_AREA, _USABLE_AREA = 0.5, 0.1


def print_calibration(document: dict[str, Any], *, as_json: bool) -> None:
    """Print a calibration, or the job that is making it."""
    output(
        document,
        lambda printed: _job(printed["job"]) if "job" in printed else _text(printed),
        as_json=as_json,
    )


def _text(document: dict[str, Any]) -> str:
    pipeline = document["pipeline"]
    fidelity = pipeline["fidelity"]
    lines = [
        f"{document['id']}{' (active)' if document['state'] == 'active' else ''}",
        f"  name         {document['name'] or '-'}",
        f"  upscaler     {document['upscaler']}, ×{pipeline['scale']}",
        f"  samples      {pipeline['samples']}, prediction {pipeline['prediction']}",
        f"  indecision   {_indecision(pipeline['indecision'])}",
        f"  fidelity     {fidelity['metric']}, counted up to {fidelity['bound']:g}",
        f"  guarantee    {_describe(document['guarantee'])}",
        f"  scenes       {document['n']} ({document['pairs']} pairs)",
        f"  smallest α   {document['min_alpha']:.4f}",
        *(_curve("group", row["group"], row) for row in document["groups"]),
        *(_curve("class", row["name"], row) for row in document["classes"]),
        "",
        "  α       threshold     trusted area of the pairs",
        *(
            f"  {row['alpha']:<7g} {float(row['threshold']):<13.6g} {row['trusted_fraction']:.1%}"
            for row in document["thresholds"]
        ),
        *(["", *_report(report)] if (report := document["report"]) else []),
        "",
        *_verdict(document),
    ]
    return "\n".join(lines)


def _curve(kind: str, name: str, row: dict[str, Any]) -> str:
    return f"  {kind}        {name}: {row['n']} scenes, smallest possible α {row['min_alpha']:.4f}"


def _verdict(document: dict[str, Any]) -> list[str]:
    """Two sentences on its use, and the next command."""
    calibration, alpha = document["id"], document["default_alpha"]
    bound = document["pipeline"]["fidelity"]["bound"]
    if short := guarantee_of(document["guarantee"]).shortfall(alpha, bound, document["n"]):
        return [
            f"Not usable yet: the default {short}.",
            f"Add scenes:  trustscale calibrations extend {calibration} DIR",
        ]
    # The area at the largest α of the table that is not above the default.
    rows = [row for row in document["thresholds"] if row["alpha"] <= alpha]
    area = max((row["trusted_fraction"] for row in rows), default=0.0)
    grade = "Good" if area >= _GOOD_AREA else "Usable" if area >= _USABLE_AREA else "Hardly useful"
    classes = len(document["classes"])
    kinds = "1 class" if classes == 1 else f"{classes} classes"
    covered = f", in {kinds} of uploads" if classes else ""
    unit = FidelitySettings(metric=document["pipeline"]["fidelity"]["metric"]).spec.error_unit
    sentence = (
        f"{grade}: at α = {alpha:g} about {100 * area:.0f} % of the area of pictures like these "
        f"can be relied on {about(unit)}. "
    )
    lines = [f"{sentence}It has {document['n']} scenes{covered}; other pictures have no promise."]
    if area < _USABLE_AREA:
        lines.append("Compare models and settings:  trustscale evaluate DIR")
    elif document["state"] != "active":
        lines.append(f"Serve from it:  trustscale calibrations activate {calibration}")
    return lines


def _indecision(settings: dict[str, Any]) -> str:
    if (fit := settings.get("fit")) is None:
        return str(settings["estimator"])
    return str(fit["name"]) + (f", on {fit['scenes']} other scenes" if fit["scenes"] else "")


def _describe(guarantee: dict[str, Any]) -> str:
    likely = "" if guarantee["delta"] is None else f", with probability {1 - guarantee['delta']:g}"
    if guarantee["robust"] > 1:
        likely += f", robust by {guarantee['robust']:g}"
    match guarantee["kind"]:
        case "expectation":
            return f"in expectation over calibrations and images{likely}"
        case "high_probability":
            return f"in expectation over images{likely}"
        case "post_hoc":
            if guarantee["menu"]:
                alphas = f"of {', '.join(f'{alpha:g}' for alpha in guarantee['menu'])}"
            else:
                alphas = "between {:g} and {:g}".format(*guarantee["between"])
            return f"for α {alphas} chosen after looking{likely}"
        case _:
            return f"errors above {guarantee['tolerance']:g} in few pictures{likely}"


def _job(job: dict[str, Any]) -> str:
    failed = f": {job['error']['detail']}" if job["error"] else ""
    left_out = f", {job['left_out']} left out" if job.get("left_out") else ""
    return f"{job['id']} is {job['state']}, {progress_of(job)}{left_out}{failed}"


def row_text(row: dict[str, Any]) -> str:
    """Return the line of a calibration in a list."""
    mark = "*" if row["active"] else " "
    sure = f" with probability {1 - row['delta']:g}" if row.get("delta") is not None else ""
    return (
        f"{mark} {row['id']}  {row['created_at'][:16]}  {row['upscaler']}  n={row['n']}  "
        f"{row['metric']}  min α {row['min_alpha']:.4f}{sure}  {row['name'] or ''}".rstrip()
    )


def activation_text(done: dict[str, Any]) -> str:
    """Return what an activation has changed."""
    active, before = done["calibrations"], done["previous"]
    stays = before in {calibration["id"] for calibration in active}
    previous = f", {'before' if stays else 'replaced'} {before}" if before else ""
    lines = [
        f"{done['calibration']} is active{previous}",
        f"  {ServingChanges.model_validate(done['changes'])}",
        *(
            f"  {calibration['id']} answers {_uploads(calibration['classes'])}"
            for calibration in active
        ),
    ]
    if done["lost"]:
        lines.append(f"  warning: nothing answers {_uploads(done['lost'])} any more")
    return "\n".join(lines)


def _uploads(classes: Sequence[str]) -> str:
    if EVERY in classes:
        return "every upload"
    return "; ".join(map(class_in_words, classes)) or "no upload that those before it leave over"


def _report(document: dict[str, Any]) -> list[str]:
    """What to expect of a calibration, and what its pairs show."""
    lines = [
        f"  {document['splits']} random halvings: mean, and 5 % to 95 % of the halvings",
        "  α       loss                      trusted area            above α",
    ]
    for row in document["rows"]:
        loss = f"{row['risk']:.4f} ({row['risk_low']:.4f} to {row['risk_high']:.4f})"
        area = f"{row['trusted']:.1%} ({row['trusted_low']:.1%} to {row['trusted_high']:.1%})"
        lines.append(f"  {row['alpha']:<7g} {loss:<25} {area:<23} {row['violations']:.0%}")
    checks = document["checks"]
    counted = f"{checks['n']} ({checks['pairs']} pairs); α = {checks['alpha']:g} needs"
    lines += [
        f"  scenes       {counted} {checks['minimal_n']}",
        f"  sizes        {', '.join(checks['sizes'])}",
        *(f"  twice        {item['name']}: {item['reason']}" for item in checks["duplicates"]),
        *(
            f"  large share  {pair['name']}: {pair['share']:.0%} of the loss"
            for pair in checks["dominant_pairs"]
            if pair["share"] > 0.1
        ),
        *(
            f"  warning      inputs made as {way['name']!r} lose {way['loss']:.3f} ± "
            f"{way['error']:.3f}: the promise does not hold for these alone"
            for way in checks["ways"]
            if way["is_above"]
        ),
    ]
    return lines
