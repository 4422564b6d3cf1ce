"""`trustscale catch`: where a model rewrites photographs whose truth is known, with cards."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trustscale_server.cli import options
from trustscale_server.cli.output import json_line
from trustscale_server.cli.sources import InputFile, input_files, raise_if_missing
from trustscale_server.platform.command_options import with_options
from trustscale_server.platform.errors import BadInput, ConfigError, TrustscaleError

if TYPE_CHECKING:
    from trustscale import AsyncTrustscale
    from trustscale._fields import UpscaleOptions
    from trustscale_server.serving.caught import Caught

MAX_CARDS: Final = 10
"""Photographs of a folder whose cards are kept: the worst."""


@dataclass
class Catching(options.TargetOptions):
    """Who is caught, and where the cards go."""

    upscaler: Annotated[
        str | None, typer.Option(help="The upscaler; default: as of a request.")
    ] = None
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the cards.", file_okay=False)
    ] = Path()
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Also look into subfolders.")
    ] = False


@with_options(catching=Catching)
def catch(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO...", help="Sharp photographs, folders or quoted patterns."),
    ],
    catching: Catching,
) -> None:
    """Shrink sharp photographs, enlarge them again, and show what the model rewrote most.

    Writes NAME.catch.jpeg of each photograph, of more than ten of the worst: as sent, as made, as
    it was, and whether that had been marked. Exit codes: 0 done; 1 some failed, and are listed.
    """
    images, _ = input_files(sources, None, recursive=catching.recursive)
    raise_if_missing(images)
    # Imported only now, so that a mistyped name fails at once.
    from trustscale_server.cli.service import service_client  # noqa: PLC0415

    async def work() -> tuple[list[_Catch], int]:
        async with service_client(
            catching.server,
            needs_key=False,
            upscaler=catching.upscaler,
            many=len(images) > 1,
            routes=("upscalers", "upscale", "uploads", "results"),
        ) as service:
            return await _worst(service, images, catching.upscaler)

    catches, failed = asyncio.run(work())
    catching.out.mkdir(parents=True, exist_ok=True)
    for photograph in sorted(catches, reverse=True):
        path = catching.out / f"{photograph.name}.catch.jpeg"
        path.write_bytes(photograph.card)
        if catching.as_json:
            json_line({"file": str(path), **photograph.place.model_dump(mode="json")})
        else:
            typer.echo(f"{path}: rewritten by {photograph.badness:.2f}. {photograph.place.verdict}")
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, order=True)
class _Catch:
    badness: float
    name: str
    place: Caught
    card: bytes


async def _worst(
    service: AsyncTrustscale, images: list[InputFile], upscaler: str | None
) -> tuple[list[_Catch], int]:
    """The worst photographs, and how many failed."""
    model = await _enlarging_upscaler(service, upscaler)
    worst: list[_Catch] = []
    failed = 0
    for image in images:
        try:
            caught = await _caught(service, image, upscaler, model)
        except (TrustscaleError, OSError) as error:
            if len(images) == 1:
                raise
            reason = error.detail if isinstance(error, TrustscaleError) else error.strerror
            typer.echo(f"trustscale: {image}: {reason}", err=True)
            failed += 1
            continue
        heapq.heappush(worst, caught)
        if len(worst) > MAX_CARDS:
            heapq.heappop(worst)
    return worst, failed


async def _enlarging_upscaler(service: AsyncTrustscale, name: str | None) -> dict[str, Any]:
    """The row of the upscaler that answers. Raises ConfigError unless it enlarges."""
    from trustscale_server.cli.choice import meant_upscalers  # noqa: PLC0415

    model = (await meant_upscalers(service, name))[0]
    if not model["scale"] or model["scale"] == 1:
        raise ConfigError(f"{model['name']} does not enlarge, or cannot be reached.")
    return model


async def _caught(
    service: AsyncTrustscale, image: InputFile, upscaler: str | None, model: dict[str, Any]
) -> _Catch:
    """Shrink, enlarge and compare one photograph."""
    import numpy as np  # noqa: PLC0415

    from trustscale_server.images.decode import decode  # noqa: PLC0415
    from trustscale_server.images.encode import picture  # noqa: PLC0415
    from trustscale_server.images.limits import Limits  # noqa: PLC0415
    from trustscale_server.images.png import to_png  # noqa: PLC0415
    from trustscale_server.images.sandbox.client import decoding  # noqa: PLC0415
    from trustscale_server.pixels.lab import to_8_bit  # noqa: PLC0415
    from trustscale_server.serving.caught import (  # noqa: PLC0415
        caught,
        caught_card,
        reduced_pair,
    )

    decoded = await decoding(decode, image.content(), Limits(2**28, 2**28), background="white")
    scale = int(model["scale"])
    x, truth = reduced_pair(to_8_bit(decoded.rgb), scale)
    options: UpscaleOptions = {} if upscaler is None else {"upscaler": upscaler}
    if model["calibration"] is None:  # nothing is promised, but what it rewrites can be shown
        options["mask"] = "none"
    result = await service.upscale(to_png(x), **options)
    output = np.asarray(result.image.convert("RGB"))
    name = str(result.document["upscaler"])
    promise = result.document.get("guarantee")
    trusted = result.mask if promise and promise["promised"] else None
    place = caught(truth, output, trusted)
    if place is None:
        raise BadInput("Nothing was rewritten that can be seen.")
    card = picture(caught_card(place, x, output, truth, upscaler=name), "jpeg", quality=90)
    return _Catch(place.badness, image.place.stem, place, card)
