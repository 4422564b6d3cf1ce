"""`trustscale calibrations`: what is stored, which one is active, files in and out.

Every command works on the stores that the settings name, or with `--server` over HTTP.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.assembly import Parts
from app.calibration import file
from app.calibration.change import Changes
from app.calibration.derive import derive
from app.calibration.guarantee import GuaranteeSettings
from app.calibration.insight import classes_of, groups_of
from app.calibration.price import COMMON_ALPHAS, advice
from app.calibration.record import Calibration
from app.cli.remote import KeyOption, ServerOption, here_or_there
from app.mistakes import mistakes
from app.sampling.pipeline import guard
from app.serving.answer import threshold_json
from app.settings import KEY_VARIABLE
from trustscale import Trustscale

app = typer.Typer(help="Stored calibrations.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="Id of a calibration.")]
GuaranteeOption = Annotated[
    str, typer.Option(help="What is promised: expectation or high_probability.")
]
ActivateOption = Annotated[bool, typer.Option(help="Serve from it at once.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Activate it also if it would serve worse.")
]
DeltaOption = Annotated[
    float, typer.Option(help="δ: the promise holds with probability 1 − δ (high_probability).")
]
MethodOption = Annotated[
    str, typer.Option(help="The test behind it: hoeffding_bentkus or wsr (high_probability).")
]


@app.command("list")
def list_(
    server: ServerOption = None, key_env: KeyOption = KEY_VARIABLE, as_json: Json = False
) -> None:
    """List calibrations, the newest first; an asterisk marks the active ones."""

    async def here(session: Parts) -> list[dict[str, Any]]:
        active = {a.calibration for a in (await session.stores.calibrations.active()).values()}
        heads = await session.stores.calibrations.heads()
        return [{**head.model_dump(mode="json"), "active": head.id in active} for head in heads]

    rows = here_or_there(server, key_env, here, lambda service: service.calibrations())
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        mark = "*" if row["active"] else " "
        typer.echo(
            f"{mark} {row['id']}  {row['created_at'][:16]}  {row['upscaler']}  n={row['n']}  "
            f"{row['metric']}  min α {row['min_alpha']:.4f}{_confidence(row)}  "
            f"{row['name'] or ''}".rstrip()
        )


@app.command()
def show(
    calibration: Id,
    group: Annotated[str | None, typer.Option(help="Only the pairs of this group.")] = None,
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
    as_json: Json = False,
) -> None:
    """Show one calibration: pipeline, thresholds and mask sizes at common α, provenance."""

    async def here(session: Parts) -> str:
        found = await session.calibrations.get(calibration)
        active = await session.calibrations.active_id(found.manifest.upscaler) == found.id
        return summary(found, active=active, as_json=as_json, group=group)

    def there(service: Trustscale) -> str:
        return _shown_by_server(service.calibration(calibration, group), as_json=as_json)

    typer.echo(here_or_there(server, key_env, here, there))


@app.command("derive")
def derive_(
    calibration: Id,
    guarantee: Annotated[
        str | None,
        typer.Option(
            help="expectation or high_probability; default: the latter, or with --bound alone that "
            "of the old one."
        ),
    ] = None,
    delta: DeltaOption = 0.1,
    method: MethodOption = "hoeffding_bentkus",
    bound: Annotated[float | None, typer.Option(min=0, help="c: larger errors count as c.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: the name of the old one.")] = None,
    activate: ActivateOption = False,
    force: ForceOption = False,
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
    as_json: Json = False,
) -> None:
    """Make a calibration of the same pairs under another guarantee or bound, without generating."""
    kind = guarantee or ("high_probability" if bound is None else None)
    try:
        settings = (
            GuaranteeSettings.model_validate({"kind": kind, "delta": delta, "method": method})
            if kind
            else None
        )
    except ValidationError as error:
        raise typer.BadParameter(mistakes(error)) from None

    async def here(session: Parts) -> str:
        parent = await session.calibrations.get(calibration)
        if activate:
            _check_live(session, parent)
        made = await derive(
            session.calibrations,
            session.stores.spool,
            parent,
            settings,
            bound=bound,
            created_by="local",
            name=name,
            to_activate=activate,
            force=force,
        )
        if activate:
            await session.calibrations.activate(made, force=force)
        return summary(made, active=activate, as_json=as_json)

    asked: dict[str, Any] = {"activate": activate, "name": name}
    if force:
        asked["force"] = True
    if settings is not None:
        asked["guarantee"] = settings.model_dump()
    if bound is not None:
        asked["fidelity"] = {"bound": bound}

    def there(service: Trustscale) -> str:
        return _shown_by_server(service.derive(calibration, **asked), as_json=as_json)

    typer.echo(here_or_there(server, key_env, here, there))


@app.command()
def activate(
    calibration: Id,
    force: ForceOption = False,
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
    as_json: Json = False,
) -> None:
    """Serve from this calibration; the answer names the one it replaces, and what that changes."""

    async def here(session: Parts) -> dict[str, Any]:
        found = await session.calibrations.get(calibration)
        _check_live(session, found)
        activation, changes = await session.calibrations.activate(found, force=force)
        return {
            **activation._asdict(),
            "at": activation.at.isoformat(),
            "changes": changes.model_dump(),
        }

    def there(service: Trustscale) -> dict[str, Any]:
        return service.activate(calibration, **({"force": True} if force else {}))

    done = here_or_there(server, key_env, here, there)
    if as_json:
        typer.echo(json.dumps(done))
        return
    replaced = f", replaced {done['previous']}" if done["previous"] else ""
    typer.echo(f"{done['calibration']} is active{replaced}")
    if "changes" in done:  # an older server does not say
        typer.echo(f"  {Changes.model_validate(done['changes'])}")


@app.command()
def export(
    calibration: Id,
    path: Annotated[Path, typer.Argument(help="File to write.")],
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
) -> None:
    """Write a calibration as one self-describing file."""

    async def here(session: Parts) -> bytes:
        return file.dump(await session.calibrations.get(calibration))

    data = here_or_there(server, key_env, here, lambda service: service.export(calibration))
    path.write_bytes(data)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that was exported.")],
    activate: ActivateOption = False,
    force: ForceOption = False,
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
) -> None:
    """Read a calibration from a file, after checking it."""
    data = path.read_bytes()
    calibration = file.load(data)

    async def here(session: Parts) -> str:
        if activate:
            _check_live(session, calibration)
            await session.calibrations.changes(calibration, force=force)
        await session.calibrations.add(calibration, activate=activate)
        return calibration.id

    def there(service: Trustscale) -> str:
        return str(service.import_file(data, activate=activate, force=force)["id"])

    typer.echo(here_or_there(server, key_env, here, there))


def _check_live(session: Parts, calibration: Calibration) -> None:
    """Raises CalibrationMismatch. One of a server that shares the store is checked there."""
    upscaler = session.upscalers.get(calibration.manifest.upscaler)
    if upscaler is not None:
        guard(calibration.pipeline, upscaler)


def summary(
    calibration: Calibration, *, active: bool, as_json: bool, group: str | None = None
) -> str:
    """One calibration as text or JSON; n and the thresholds are those of the group."""
    part = calibration.of_group(group)
    rows: list[dict[str, Any]] = [
        {
            "alpha": alpha,
            "threshold": threshold_json(part.curve.threshold(alpha)),
            "trusted": part.mean_trusted_fraction(part.curve.threshold(alpha)),
        }
        for alpha in COMMON_ALPHAS
    ]
    document = {
        "id": calibration.id,
        "active": active,
        "n": part.n,
        "pairs": part.pairs,
        "min_alpha": part.curve.min_alpha,
        **calibration.manifest.model_dump(mode="json", exclude={"pairs"}),
        "guarantee": calibration.guarantee.facts(),
        "groups": groups_of(calibration),
        "classes": classes_of(part),
        "thresholds": rows,
    }
    return shown(document, as_json=as_json)


def of_server(detail: dict[str, Any]) -> dict[str, Any]:
    """The server's description of a calibration in the form of the local one."""
    head = {"id": detail["id"], "active": detail["state"] == "active"}
    thresholds = [
        {
            "alpha": row["alpha"],
            "threshold": row["threshold"],
            "trusted": row["trusted_fraction"],
        }
        for row in detail["thresholds"]
    ]
    only_there = {
        *("state", "thresholds", "bound", "differences", "leakage", "pictures", "changes")
    }
    others = {name: value for name, value in detail.items() if name not in only_there}
    return {**head, **others, "thresholds": thresholds}


def shown(document: dict[str, Any], *, as_json: bool) -> str:
    """A described calibration as text or JSON."""
    if as_json:
        return json.dumps(document, indent=2)
    pipeline = document["pipeline"]
    short = _shortfall(document)
    told = advice(document.get("price", []), document["default_alpha"])
    lines = [
        f"{document['id']}{' (active)' if document['active'] else ''}",
        f"  name         {document['name'] or '-'}",
        f"  upscaler     {document['upscaler']}, ×{pipeline['scale']}",
        f"  samples      {pipeline['samples']}, prediction {pipeline['prediction']}",
        f"  fingerprint  {pipeline['fingerprint']}",
        f"  indecision   {json.dumps(pipeline['indecision'])}",
        f"  fidelity     {json.dumps(pipeline['fidelity'])}",
        f"  guarantee    {_in_words(document['guarantee'])}",
        f"  scenes       {document['n']} ({document['pairs']} pairs)",
        f"  smallest α   {document['min_alpha']:.4f}",
        *(
            f"  group        {row['group']}: {row['n']} scenes, smallest possible α "
            f"{row['min_alpha']:.4f}"
            for row in document["groups"]
        ),
        *(
            f"  class        {row['name']}: {row['n']} scenes, smallest possible α "
            f"{row['min_alpha']:.4f}"
            for row in document["classes"]
        ),
        "",
        "  α       threshold     trusted area of the pairs",
        *(
            f"  {r['alpha']:<7g} {float(r['threshold']):<13.6g} {r['trusted']:.1%}"
            for r in document["thresholds"]
        ),
        *([f"  note: the default {short}."] if short else []),
        *([f"  price: {told}"] if told else []),
    ]
    return "\n".join(lines)


def _shortfall(document: dict[str, Any]) -> str | None:
    """Why nothing is trusted at the default α, if that is so."""
    promise = {name: value for name, value in document["guarantee"].items() if value is not None}
    return GuaranteeSettings.model_validate(promise).shortfall(
        document["default_alpha"],
        document["pipeline"]["fidelity"]["bound"],
        document["n"],
        document["min_alpha"],
    )


def _confidence(row: dict[str, Any]) -> str:
    """What a list adds to a guarantee with high probability."""
    return f" with probability {1 - row['delta']:g}" if row.get("delta") is not None else ""


def _in_words(guarantee: dict[str, Any]) -> str:
    if guarantee["delta"] is None:
        return "in expectation over calibrations and images"
    return f"with probability {1 - guarantee['delta']:g} ({guarantee['method']})"


def _shown_by_server(detail: dict[str, Any], *, as_json: bool) -> str:
    """A calibration, or the job that is making it."""
    job = detail.get("job")
    if job is None:
        return shown(of_server(detail), as_json=as_json)
    if as_json:
        return json.dumps(detail, indent=2)
    progress = job["progress"]
    failed = f": {job['error']['detail']}" if job["error"] else ""
    left_out = f", {job['left_out']} left out" if job.get("left_out") else ""
    return (
        f"{job['id']} is {job['state']}, {progress['done']} of {progress['total']} "
        f"{progress['unit']}{left_out}{failed}"
    )
