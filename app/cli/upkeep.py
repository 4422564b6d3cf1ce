"""`trustscale calibrations`: what one can expect, take away, add, and look up afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.assembly import Parts
from app.calibration.insight import expected
from app.cli import options
from app.cli.calibrations import Id, shown
from app.cli.options import lines, tell
from app.cli.remote import here_or_there, made_remotely
from app.monitor.watch import delete_calibration
from app.settings import KEY_VARIABLE
from trustscale import Job, Tar, Trustscale

_LARGE_SHARE = 0.1


def mount(calibrations: typer.Typer) -> None:
    """Add the commands."""
    for command in (backtest, extend, delete, audit):
        calibrations.command()(command)


def backtest(
    calibration: Id,
    splits: Annotated[int, typer.Option(min=1, max=1000, help="Random halvings.")] = 100,
    group: Annotated[str | None, typer.Option(help="Only the pairs of this group.")] = None,
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
    as_json: options.Json = False,
) -> None:
    """Say what to expect: loss and trusted area where half of the pairs calibrates the other."""

    async def here(session: Parts) -> dict[str, Any]:
        found = (await session.calibrations.get(calibration)).of_group(group)
        name = found.manifest.upscaler
        upscaler = session.upscalers.get(name)
        at_once = upscaler.capabilities.samples_per_call if upscaler else 1
        return expected(found, splits, at_once, session.settings.price_per_call(name))

    def there(service: Trustscale) -> dict[str, Any]:
        return service.backtest(calibration, splits, group)

    tell(here_or_there(server, key_env, here, there), _expected, as_json=as_json)


def extend(
    calibration: Id,
    folder: Annotated[Path, typer.Argument(help="More pairs, as of `trustscale calibrate`.")],
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="The server that has the calibration.")
    ],
    group_by: Annotated[
        str | None, typer.Option(help="Groups, as of `trustscale calibrate`.")
    ] = None,
    scene_by: Annotated[
        str | None, typer.Option(help="Scenes, as of `trustscale calibrate`.")
    ] = None,
    activate: options.Activate = False,
    force: options.Force = False,
    key_env: options.Key = KEY_VARIABLE,
    as_json: options.Json = False,
) -> None:
    """Make a calibration with more pairs; nothing is generated again for the old ones."""

    def begin(service: Trustscale, pairs: Tar, **named: Any) -> Job:
        return service.extend(calibration, pairs, activate=activate, force=force, **named)

    made = made_remotely(folder, begin, server, key_env, (group_by, scene_by))
    if made is not None:
        shown(made, as_json=as_json)


def delete(
    calibration: Id,
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
) -> None:
    """Remove a calibration that is not active, with its canaries and what was seen under it."""

    async def here(session: Parts) -> None:
        await delete_calibration(session.stores, session.calibrations, calibration)

    here_or_there(server, key_env, here, lambda service: service.delete(calibration))
    typer.echo(f"{calibration} is deleted")


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most entries.")] = 100,
    before: Annotated[int | None, typer.Option(help="Only those older than this id.")] = None,
    server: options.Server = None,
    key_env: options.Key = KEY_VARIABLE,
    as_json: options.Json = False,
) -> None:
    """Say what admins of a server did, the newest first."""

    async def here(session: Parts) -> list[dict[str, Any]]:
        entries = await session.stores.audit.entries(limit=limit, before=before)
        return [entry.model_dump(mode="json") for entry in entries]

    entries = here_or_there(server, key_env, here, lambda service: service.audit(limit, before))
    tell(entries, lines(_entry), as_json=as_json)


def _entry(entry: dict[str, Any]) -> str:
    facts = "  ".join(f"{name}={value}" for name, value in entry["facts"].items())
    return f"{entry['id']}  {entry['at'][:16]}  {entry['action']}  {entry['actor']}  {facts}"


def _expected(document: dict[str, Any]) -> str:
    """A backtest as a table, with what speaks against its calibration."""
    lines = [
        f"{document['splits']} random halvings: mean, and 5 % to 95 % of the halvings",
        "  α       loss                      trusted area            above α",
    ]
    for row in document["rows"]:
        loss = f"{row['risk']:.4f} ({row['risk_low']:.4f} to {row['risk_high']:.4f})"
        area = f"{row['trusted']:.1%} ({row['trusted_low']:.1%} to {row['trusted_high']:.1%})"
        lines.append(f"  {row['alpha']:<7g} {loss:<25} {area:<23} {row['violations']:.0%}")
    found = document["checks"]
    counted = f"{found['n']} ({found['pairs']} pairs); α = {found['alpha']:g} needs"
    lines += [
        f"  scenes       {counted} {found['minimal_n']}",
        f"  sizes        {', '.join(found['sizes'])}",
        *(f"  twice        {item['name']}: {item['reason']}" for item in found["duplicates"]),
        *(
            f"  large share  {pair['name']}: {pair['share']:.0%} of the loss"
            for pair in found["dominant_pairs"]
            if pair["share"] > _LARGE_SHARE
        ),
    ]
    if document.get("advice"):
        lines.append(f"  price        {document['advice']}")
    return "\n".join(lines)
