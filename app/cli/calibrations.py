"""`trustscale calibrations`: what is stored, which one is active, files in and out.

Every command works on the stores that the settings name, or with `--server` over HTTP.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.api.documents import detail
from app.assembly import Parts
from app.calibration import file
from app.calibration.change import Changes
from app.calibration.derive import derive
from app.calibration.guarantee import GuaranteeSettings
from app.calibration.price import advice
from app.calibration.record import Calibration
from app.cli import options
from app.cli.options import lines, tell
from app.cli.remote import here_or_there
from app.mistakes import mistakes
from app.sampling.pipeline import guard
from app.settings import KEY_VARIABLE
from trustscale import Trustscale

app = typer.Typer(help="Stored calibrations.", no_args_is_help=True)

# What a description says of a service, and of the moment.
_NOT_SHOWN = {"state", "bound", "differences", "leakage", "pictures", "changes"}

Id = Annotated[str, typer.Argument(help="Id of a calibration.")]


@app.command("list")
def list_(
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
    as_json: options.Json = False,
) -> None:
    """List calibrations, the newest first; an asterisk marks the active ones."""

    async def here(session: Parts) -> list[dict[str, Any]]:
        active = {a.calibration for a in (await session.stores.calibrations.active()).values()}
        heads = await session.stores.calibrations.heads()
        return [{**head.model_dump(mode="json"), "active": head.id in active} for head in heads]

    rows = here_or_there(server, key_env, here, lambda service: service.calibrations())
    tell(rows, lines(_row), as_json=as_json)


def _row(row: dict[str, Any]) -> str:
    mark = "*" if row["active"] else " "
    sure = f" with probability {1 - row['delta']:g}" if row.get("delta") is not None else ""
    return (
        f"{mark} {row['id']}  {row['created_at'][:16]}  {row['upscaler']}  n={row['n']}  "
        f"{row['metric']}  min α {row['min_alpha']:.4f}{sure}  {row['name'] or ''}".rstrip()
    )


@app.command()
def show(
    calibration: Id,
    group: Annotated[str | None, typer.Option(help="Only the pairs of this group.")] = None,
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
    as_json: options.Json = False,
) -> None:
    """Show one calibration: pipeline, thresholds and mask sizes at common α, provenance."""

    async def here(session: Parts) -> dict[str, Any]:
        return await described(session, await session.calibrations.get(calibration), group)

    def there(service: Trustscale) -> dict[str, Any]:
        return service.calibration(calibration, group)

    shown(here_or_there(server, key_env, here, there), as_json=as_json)


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
    delta: options.Delta = 0.1,
    method: options.Method = "hoeffding_bentkus",
    bound: Annotated[float | None, typer.Option(min=0, help="c: larger errors count as c.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: the name of the old one.")] = None,
    activate: options.Activate = False,
    force: options.Force = False,
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
    as_json: options.Json = False,
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

    async def here(session: Parts) -> dict[str, Any]:
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
        return await described(session, made)

    asked: dict[str, Any] = {"activate": activate, "name": name}
    if force:
        asked["force"] = True
    if settings is not None:
        asked["guarantee"] = settings.model_dump()
    if bound is not None:
        asked["fidelity"] = {"bound": bound}

    def there(service: Trustscale) -> dict[str, Any]:
        return service.derive(calibration, **asked)

    shown(here_or_there(server, key_env, here, there), as_json=as_json)


@app.command()
def activate(
    calibration: Id,
    force: options.Force = False,
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
    as_json: options.Json = False,
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

    tell(here_or_there(server, key_env, here, there), _switch, as_json=as_json)


def _switch(done: dict[str, Any]) -> str:
    replaced = f", replaced {done['previous']}" if done["previous"] else ""
    told = f"{done['calibration']} is active{replaced}"
    if "changes" not in done:  # an older server does not say
        return told
    return f"{told}\n  {Changes.model_validate(done['changes'])}"


@app.command()
def export(
    calibration: Id,
    path: Annotated[Path, typer.Argument(help="File to write.")],
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
) -> None:
    """Write a calibration as one self-describing file."""

    async def here(session: Parts) -> bytes:
        return file.dump(await session.calibrations.get(calibration))

    data = here_or_there(server, key_env, here, lambda service: service.export(calibration))
    path.write_bytes(data)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that was exported.")],
    activate: options.Activate = False,
    force: options.Force = False,
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
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


async def described(
    session: Parts, calibration: Calibration, group: str | None = None
) -> dict[str, Any]:
    """A calibration as a server describes it; n and the thresholds are those of the group."""
    return (await detail(session, calibration, group)).model_dump(mode="json")


def shown(found: dict[str, Any], *, as_json: bool) -> None:
    """Print a calibration as it was described, or the job that is making it."""
    if found.get("job") is not None:
        tell(found, lambda pending: _job(pending["job"]), as_json=as_json)
        return
    document = {name: value for name, value in found.items() if name not in _NOT_SHOWN}
    document["active"] = found["state"] == "active"
    document["thresholds"] = [
        {"trusted" if name == "trusted_fraction" else name: value for name, value in row.items()}
        for row in found["thresholds"]
    ]
    tell(document, _words, as_json=as_json)


def _words(document: dict[str, Any]) -> str:
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


def _in_words(guarantee: dict[str, Any]) -> str:
    if guarantee["delta"] is None:
        return "in expectation over calibrations and images"
    return f"with probability {1 - guarantee['delta']:g} ({guarantee['method']})"


def _job(job: dict[str, Any]) -> str:
    progress = job["progress"]
    failed = f": {job['error']['detail']}" if job["error"] else ""
    left_out = f", {job['left_out']} left out" if job.get("left_out") else ""
    return (
        f"{job['id']} is {job['state']}, {progress['done']} of {progress['total']} "
        f"{progress['unit']}{left_out}{failed}"
    )
