"""`trustscale calibrations`: what is stored, which one is active, files in and out.

Every command works on the stores that the settings name, or with `--server` over HTTP.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.answer import threshold_json
from app.calibration import file
from app.calibration.insight import COMMON_ALPHAS
from app.calibration.record import Calibration
from app.cli.local import local
from app.cli.remote import KeyOption, Remote, ServerOption
from app.pipeline import guard
from app.settings import KEY_VARIABLE

app = typer.Typer(help="Stored calibrations.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="Id of a calibration.")]


@app.command("list")
def list_(
    server: ServerOption = None, key_env: KeyOption = KEY_VARIABLE, as_json: Json = False
) -> None:
    """List calibrations, the newest first; an asterisk marks the active ones."""

    async def run() -> list[dict[str, Any]]:
        async with local() as session:
            active = {a.calibration for a in (await session.stores.calibrations.active()).values()}
            heads = await session.stores.calibrations.heads()
            return [{**head.model_dump(mode="json"), "active": head.id in active} for head in heads]

    if server is None:
        rows = asyncio.run(run())
    else:
        with Remote.open(server, key_env) as remote:
            rows = remote.rows()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        mark = "*" if row["active"] else " "
        typer.echo(
            f"{mark} {row['id']}  {row['created_at'][:16]}  {row['upscaler']}  n={row['n']}  "
            f"{row['metric']}  min α {row['min_alpha']:.4f}  {row['name'] or ''}".rstrip()
        )


@app.command()
def show(
    calibration: Id,
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
    as_json: Json = False,
) -> None:
    """Show one calibration: pipeline, thresholds and mask sizes at common α, provenance."""

    async def run() -> tuple[Calibration, bool]:
        async with local() as session:
            found = await session.calibrations.get(calibration)
            return found, await session.calibrations.active_id(found.manifest.upscaler) == found.id

    if server is not None:
        with Remote.open(server, key_env) as remote:
            typer.echo(_shown_by_server(remote.show(calibration), as_json=as_json))
        return
    found, active = asyncio.run(run())
    typer.echo(summary(found, active=active, as_json=as_json))


@app.command()
def activate(
    calibration: Id,
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
    as_json: Json = False,
) -> None:
    """Serve from this calibration; the answer names the one it replaces."""

    async def run() -> dict[str, Any]:
        async with local() as session:
            found = await session.calibrations.get(calibration)
            upscaler = session.upscalers.get(found.manifest.upscaler)
            if upscaler is not None:  # one of a server that shares the store is checked there
                guard(found.pipeline, upscaler)
            activation = await session.stores.calibrations.activate(calibration)
            return {
                "upscaler": activation.upscaler,
                "calibration": activation.calibration,
                "previous": activation.previous,
                "at": activation.at.isoformat(),
            }

    if server is None:
        done = asyncio.run(run())
    else:
        with Remote.open(server, key_env) as remote:
            done = remote.activate(calibration)
    replaced = f", replaced {done['previous']}" if done["previous"] else ""
    typer.echo(json.dumps(done) if as_json else f"{done['calibration']} is active{replaced}")


@app.command()
def export(
    calibration: Id,
    path: Annotated[Path, typer.Argument(help="File to write.")],
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
) -> None:
    """Write a calibration as one self-describing file."""

    async def run() -> bytes:
        async with local() as session:
            return file.dump(await session.calibrations.get(calibration))

    if server is None:
        path.write_bytes(asyncio.run(run()))
    else:
        with Remote.open(server, key_env) as remote:
            path.write_bytes(remote.export(calibration))


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that was exported.")],
    activate: Annotated[bool, typer.Option(help="Serve from it at once.")] = False,
    server: ServerOption = None,
    key_env: KeyOption = KEY_VARIABLE,
) -> None:
    """Read a calibration from a file, after checking it."""
    data = path.read_bytes()
    calibration = file.load(data)
    if server is not None:
        with Remote.open(server, key_env) as remote:
            typer.echo(remote.import_file(data, activate=activate)["id"])
        return

    async def run() -> None:
        async with local() as session:
            upscaler = session.upscalers.get(calibration.manifest.upscaler)
            if activate and upscaler is not None:
                guard(calibration.pipeline, upscaler)
            await session.calibrations.add(calibration, activate=activate)

    asyncio.run(run())
    typer.echo(calibration.id)


def summary(calibration: Calibration, *, active: bool, as_json: bool) -> str:
    """One calibration as text or JSON."""
    rows: list[dict[str, Any]] = [
        {
            "alpha": alpha,
            "threshold": threshold_json(calibration.curve.threshold(alpha)),
            "trusted": calibration.mean_trusted_fraction(calibration.curve.threshold(alpha)),
        }
        for alpha in COMMON_ALPHAS
    ]
    document = {
        "id": calibration.id,
        "active": active,
        "n": calibration.n,
        "min_alpha": calibration.curve.min_alpha,
        **calibration.manifest.model_dump(mode="json", exclude={"pairs"}),
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
    others = {name: value for name, value in detail.items() if name not in {"state", "thresholds"}}
    return {**head, **others, "thresholds": thresholds}


def shown(document: dict[str, Any], *, as_json: bool) -> str:
    """A described calibration as text or JSON."""
    if as_json:
        return json.dumps(document, indent=2)
    pipeline = document["pipeline"]
    lines = [
        f"{document['id']}{' (active)' if document['active'] else ''}",
        f"  name         {document['name'] or '-'}",
        f"  upscaler     {document['upscaler']}, ×{pipeline['scale']}",
        f"  samples      {pipeline['samples']}, prediction {pipeline['prediction']}",
        f"  fingerprint  {pipeline['fingerprint']}",
        f"  indecision   {json.dumps(pipeline['indecision'])}",
        f"  fidelity     {json.dumps(pipeline['fidelity'])}",
        f"  pairs        {document['n']}, smallest possible α {document['min_alpha']:.4f}",
        "",
        "  α       threshold     trusted area of the pairs",
        *(
            f"  {r['alpha']:<7g} {float(r['threshold']):<13.6g} {r['trusted']:.1%}"
            for r in document["thresholds"]
        ),
    ]
    return "\n".join(lines)


def _shown_by_server(detail: dict[str, Any], *, as_json: bool) -> str:
    """A calibration, or the job that is making it."""
    job = detail.get("job")
    if job is None:
        return shown(of_server(detail), as_json=as_json)
    if as_json:
        return json.dumps(detail, indent=2)
    progress = job["progress"]
    failed = f": {job['error']['detail']}" if job["error"] else ""
    return (
        f"{job['id']} is {job['state']}, {progress['done']} of {progress['total']} "
        f"{progress['unit']}{failed}"
    )
