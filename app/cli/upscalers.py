"""`trustscale upscalers`: the configured ones, and whether they can make masks."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options
from app.cli.options import lines, output
from app.cli.service import ask, local
from app.images.decode import decode
from app.images.decoders import decoding
from app.sampling.pipeline import DEFAULT_SAMPLES
from app.upscalers.probe import ProbeReport, probe

app = typer.Typer(help="The configured upscalers.", no_args_is_help=True)


@app.command("list")
def list_(server: options.Server = None, as_json: options.Json = False) -> None:
    """List the configured upscalers and their active calibrations."""
    found = ask(server, lambda service: service.upscalers(brief=True), needs_key=False)
    rows = [{name: row[name] for name in ("name", "kind", "calibration")} for row in found]
    output(rows, lines(_line), as_json=as_json)


@app.command("test")
def try_upscaler(
    name: Annotated[str, typer.Argument(help="Name of an upscaler.")],
    image: Annotated[Path | None, typer.Option(help="Send this image.")] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="M, to count the calls of a request.")
    ] = DEFAULT_SAMPLES,
    as_json: options.Json = False,
) -> None:
    """Send one image three times, with two seeds, and report; three generations are paid for."""

    async def run() -> ProbeReport:
        async with local(name) as session:
            upscaler = session.service.upscaler(name)
            picture = None
            if image is not None:
                data = await asyncio.to_thread(image.read_bytes)
                picture = (await decoding(decode, data, session.settings.limits)).rgb
            return await probe(upscaler, picture, samples=samples)

    report = asyncio.run(run())
    found = {**asdict(report), "usable": report.usable}
    output(found, lambda _: _text(report), as_json=as_json)
    if not report.usable:
        raise typer.Exit(1)


def _line(row: dict[str, Any]) -> str:
    return f"{row['name']}  {row['kind']}  {row['calibration'] or 'not calibrated'}"


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
