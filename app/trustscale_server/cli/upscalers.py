"""`trustscale upscalers`: the configured ones, and whether they can make masks.

`trustscale connect`: the entry of a new one in the file of settings, from its address.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from trustscale import AsyncTrustscale
from trustscale_server.cli import options
from trustscale_server.cli.in_process import services_in_process
from trustscale_server.cli.output import lines, output
from trustscale_server.cli.service import ask
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.platform.command_options import with_options
from trustscale_server.platform.errors import ConfigError
from trustscale_server.sampling.spec import DEFAULT_SAMPLES
from trustscale_server.upscalers.assessment import Assessment, assess
from trustscale_server.upscalers.entries import add

app = typer.Typer(help="The configured upscalers.", no_args_is_help=True)


@app.command("list")
def list_(server: options.Server = None, as_json: options.Json = False) -> None:
    """List the configured upscalers and their active calibrations."""
    upscalers = ask(server, lambda service: service.upscalers(brief=True), needs_key=False)
    rows = [{name: row[name] for name in ("name", "kind", "calibration")} for row in upscalers]
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
    """Send one image three times, with two seeds, and half of it once, and report.

    Up to four generations are paid for.
    """

    async def run() -> Assessment:
        async with services_in_process(name) as session:
            upscaler = session.service.context.upscaler(name)
            picture = None
            if image is not None:
                data = await asyncio.to_thread(image.read_bytes)
                picture = (await decoding(decode, data, session.settings.limits)).rgb
            return await assess(upscaler, picture, samples=samples)

    report = asyncio.run(run())
    document = {**asdict(report), "usable": report.usable}
    output(document, lambda _: _text(report), as_json=as_json)
    if not report.usable:
        raise typer.Exit(1)


def _line(row: dict[str, Any]) -> str:
    return f"{row['name']}  {row['kind']}  {row['calibration'] or 'not calibrated'}"


def _text(report: Assessment) -> str:
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
    if report.agreement is not None:
        lines.append(f"  colours        {report.agreement}")
    if report.seams is not None:
        lines.append(f"  tiles          {report.seams}")
    if report.error:
        lines.append(f"  error          {report.error}")
    lines += [f"  warning: {warning}" for warning in report.warnings]
    obstacle = report.obstacle
    lines.append("  Masks can be made." if obstacle is None else f"  No mask: {obstacle}.")
    return "\n".join(lines)


@with_options(calls=options.Calls)
def connect(
    address: Annotated[
        str,
        typer.Argument(
            help="URL of a Replicate model, a Gradio app, a Cog container, a server with /v2 or an "
            "OpenAPI description; or an ONNX file."
        ),
    ],
    calls: options.Calls,
    name: Annotated[
        str | None, typer.Option(help="Name of the upscaler; default: the model's.")
    ] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with its API token.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="What a call costs.", min=0)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the entry, as JSON or text; repeatable.",
        ),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Add the entry to this file of settings.")
    ] = None,
) -> None:
    """Make an upscaler's entry from its server's description, and try it with one call."""
    settings = _settings(set_ or [], name=name, token_env=token_env, price_per_call=price)
    token = os.environ.get(token_env, "").strip() if token_env else ""
    if token_env and not token:
        raise ConfigError(f"The environment variable {token_env} is not set.")

    def probed(*, call: bool) -> dict[str, Any]:
        async def question(service: AsyncTrustscale) -> dict[str, Any]:
            return await service.probe(address, call=call, token=token, settings=settings)

        return ask(calls.server, question, routes=("connect",))

    report = probed(call=False)
    typer.echo(_before(report), err=True)
    if report["needs"]:
        raise ConfigError(f"Give {' and '.join(f'--set {need}=…' for need in report['needs'])}.")
    if calls.yes or typer.confirm("Make the call?", err=True):
        report = probed(call=True)
        typer.echo(_after(report), err=True)
    if write is not None and report["tried"]:
        add(write, report["entry"])
    output(report, lambda _: report["toml"].rstrip(), as_json=calls.as_json)


def _settings(assignments: list[str], **own: Any) -> dict[str, Any]:
    """The settings as a document; a name `a.b` sets `b` in the table `a`.

    Raises:
        ConfigError: one is not NAME=VALUE.
    """
    settings = {key: value for key, value in own.items() if value is not None}
    for assignment in assignments:
        place, equals, text = assignment.partition("=")
        *parents, last = place.split(".")
        if not equals or not all((*parents, last)):
            raise ConfigError(f"--set takes NAME=VALUE, not {assignment!r}.")
        table = settings
        for parent in parents:
            table = table.setdefault(parent, {})
        try:
            table[last] = json.loads(text)
        except ValueError:
            table[last] = text
    return settings


def _before(report: dict[str, Any]) -> str:
    cost = report["calibration"]
    price = "" if cost["price"] is None else f", for {cost['price']:.6g} at the provider's price"
    return _with_notes(
        report,
        f"It is {report['what']}. So far nothing was generated; the trial is one call.\n"
        f"A calibration of {cost['pictures']} photographs takes {cost['calls']:,} calls{price}: "
        f"each photograph as {cost['kinds']} kinds of upload.",
    )


def _after(report: dict[str, Any]) -> str:
    minutes = f"{report['calibration']['seconds'] / 60:.0f} min for the calibration"
    return _with_notes(
        report,
        f"It works: ×{report['scale']}, {report['seconds']:.2f} s a call, so about {minutes}.\n"
        "With the entry in the file of settings: trustscale upscalers test "
        f"{report['entry']['name']} (four calls; of tiles, too), then trustscale calibrate.",
    )


def _with_notes(report: dict[str, Any], text: str) -> str:
    return "\n".join([text, *(f"note: {note}" for note in report["notes"])])
