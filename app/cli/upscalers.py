"""`trustscale upscalers`: what is configured, and whether it can be used for masks."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.cli.local import local
from app.images.decode import decode
from app.sampling.defaults import default_samples
from app.upscalers.probe import ProbeReport, probe

app = typer.Typer(help="The configured upscalers.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the configured upscalers and their active calibrations."""

    async def run() -> list[dict[str, str | None]]:
        async with local() as session:
            return [
                {
                    "name": upscaler.name,
                    "kind": upscaler.kind,
                    "calibration": await session.calibrations.active_id(upscaler.name),
                }
                for upscaler in session.upscalers.values()
            ]

    rows = asyncio.run(run())
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['name']}  {row['kind']}  {row['calibration'] or 'not calibrated'}")


@app.command("test")
def try_upscaler(
    name: Annotated[str, typer.Argument(help="Name of an upscaler.")],
    image: Annotated[Path | None, typer.Option(help="Send this image.")] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="M, to count the calls of a request; default: what suits the upscaler."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send one image three times, with two seeds, and report; three generations are paid for."""

    async def run() -> ProbeReport:
        async with local(name) as session:
            upscaler = session.service.upscaler(name)
            picture = None
            if image is not None:
                data = await asyncio.to_thread(image.read_bytes)
                picture = decode(data, session.settings.limits).rgb
            return await probe(upscaler, picture, samples=samples or default_samples(upscaler))

    report = asyncio.run(run())
    typer.echo(
        json.dumps({**asdict(report), "usable": report.usable}, indent=2)
        if as_json
        else _text(report)
    )
    if not report.usable:
        raise typer.Exit(1)


def _text(report: ProbeReport) -> str:
    answers = {None: "unknown", True: "yes", False: "no"}
    latency = "unknown" if report.latency_s is None else f"{report.latency_s:.2f} s per call"
    calls = report.calls_per_request or "unknown"
    alignment = report.alignment
    lines = [
        f"{report.name} ({report.kind})",
        f"  reachable      {answers[report.reachable]}",
        f"  generates      {answers[report.generates]}",
        f"  scale          {report.scale or 'unknown'}",
        f"  fingerprint    {report.fingerprint or 'unknown'}",
        f"  takes seeds    {answers[report.takes_seeds]}",
        f"  honours seeds  {answers[report.honours_seeds]}",
        f"  samples vary   {answers[report.varies]}",
        f"  lossless       {answers[report.lossless]}",
        f"  latency        {latency}",
        f"  calls          {calls} per request of {report.samples} samples",
    ]
    if alignment is not None:
        lines.append(f"  aligned        {alignment.problem or 'yes'}")
    if report.error:
        lines.append(f"  error          {report.error}")
    lines += [f"  warning: {warning}" for warning in report.warnings]
    obstacle = report.obstacle
    lines.append("  Masks can be made." if obstacle is None else f"  No mask: {obstacle}.")
    return "\n".join(lines)
