"""`trustscale calibrations`: what is stored, which one is active, files in and out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.answer import threshold_json
from app.calibration import file
from app.calibration.record import Calibration
from app.cli.local import local

app = typer.Typer(help="Stored calibrations.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="Id of a calibration.")]

COMMON_ALPHAS = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List calibrations, the newest first; an asterisk marks the active ones."""

    async def run() -> list[dict[str, Any]]:
        async with local() as session:
            active = {a.calibration for a in (await session.stores.calibrations.active()).values()}
            heads = await session.stores.calibrations.heads()
            return [{**head.model_dump(mode="json"), "active": head.id in active} for head in heads]

    rows = asyncio.run(run())
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
def show(calibration: Id, as_json: Json = False) -> None:
    """Show one calibration: pipeline, thresholds and mask sizes at common α, provenance."""

    async def run() -> tuple[Calibration, bool]:
        async with local() as session:
            found = await session.calibrations.get(calibration)
            return found, await session.calibrations.active_id(found.manifest.upscaler) == found.id

    found, active = asyncio.run(run())
    typer.echo(summary(found, active=active, as_json=as_json))


@app.command()
def activate(calibration: Id, as_json: Json = False) -> None:
    """Serve from this calibration; the answer names the one it replaces."""

    async def run() -> dict[str, Any]:
        async with local() as session:
            activation = await session.stores.calibrations.activate(calibration)
            return {
                "upscaler": activation.upscaler,
                "calibration": activation.calibration,
                "previous": activation.previous,
            }

    done = asyncio.run(run())
    replaced = f", replaced {done['previous']}" if done["previous"] else ""
    typer.echo(json.dumps(done) if as_json else f"{done['calibration']} is active{replaced}")


@app.command()
def export(calibration: Id, path: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Write a calibration as one self-describing file."""

    async def run() -> bytes:
        async with local() as session:
            return file.dump(await session.calibrations.get(calibration))

    path.write_bytes(asyncio.run(run()))


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that was exported.")],
    activate: Annotated[bool, typer.Option(help="Serve from it at once.")] = False,
) -> None:
    """Read a calibration from a file, after checking it."""
    calibration = file.load(path.read_bytes())

    async def run() -> None:
        async with local() as session:
            await session.calibrations.add(calibration, activate=activate)

    asyncio.run(run())
    typer.echo(calibration.id)


def summary(calibration: Calibration, *, active: bool, as_json: bool) -> str:
    """One calibration as text or JSON."""
    rows = [
        {
            "alpha": alpha,
            "threshold": calibration.curve.threshold(alpha),
            "trusted": calibration.mean_trusted_fraction(calibration.curve.threshold(alpha)),
        }
        for alpha in COMMON_ALPHAS
    ]
    if as_json:
        manifest = calibration.manifest.model_dump(mode="json", exclude={"pairs"})
        thresholds = [{**row, "threshold": threshold_json(row["threshold"])} for row in rows]
        document = {
            "id": calibration.id,
            "active": active,
            "n": calibration.n,
            "min_alpha": calibration.curve.min_alpha,
            **manifest,
            "thresholds": thresholds,
        }
        return json.dumps(document, indent=2)
    pipeline = calibration.pipeline
    lines = [
        f"{calibration.id}{' (active)' if active else ''}",
        f"  name         {calibration.manifest.name or '-'}",
        f"  upscaler     {calibration.manifest.upscaler}, ×{pipeline.scale}",
        f"  samples      {pipeline.samples}, prediction {pipeline.prediction}",
        f"  fingerprint  {pipeline.fingerprint}",
        f"  indecision   {json.dumps(pipeline.indecision.to_dict())}",
        f"  fidelity     {json.dumps(pipeline.fidelity.to_dict())}",
        f"  pairs        {calibration.n}, smallest possible α {calibration.curve.min_alpha:.4f}",
        "",
        "  α       threshold     trusted area of the pairs",
        *(f"  {r['alpha']:<7g} {r['threshold']:<13.6g} {r['trusted']:.1%}" for r in rows),
    ]
    return "\n".join(lines)
