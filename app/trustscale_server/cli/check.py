"""`trustscale check`: whether a picture that somebody enlarged contradicts its source."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trustscale_server.cli import options
from trustscale_server.cli.output import json_line

_CONTRADICTS, _UNRELATED = 3, 4
"""Exit codes."""

_Picture = Annotated[Path, typer.Argument(dir_okay=False, exists=True, readable=True)]


def check(
    small: _Picture,
    large: _Picture,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a report for people.", dir_okay=False),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Write a picture to share, as a PNG, JPEG or WebP file: what was found, framed.",
            dir_okay=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare a picture with its enlargement, whoever made it: contradictions, and what it adds.

    Nothing is sent anywhere, and no model is needed. Exit codes: 0 no contradiction was found;
    3 it contradicts; 4 the pictures do not belong together; 1 one cannot be read.
    """
    # Imported only now, so that a mistyped name fails at once.
    from trustscale_server.images.decoding.header import image_size  # noqa: PLC0415
    from trustscale_server.images.sandbox.client import in_decoder  # noqa: PLC0415
    from trustscale_server.proof.check import files as check_files  # noqa: PLC0415
    from trustscale_server.proof.check.card import card_form, check_card  # noqa: PLC0415
    from trustscale_server.proof.check.check import check_pictures  # noqa: PLC0415
    from trustscale_server.proof.check.report import html_report  # noqa: PLC0415
    from trustscale_server.proof.check.things import finders  # noqa: PLC0415
    from trustscale_server.serving.finders import FaceFinder  # noqa: PLC0415

    form = None if card is None else card_form(card.suffix)
    files = [(small.read_bytes(), check_files.SMALL), (large.read_bytes(), check_files.LARGE)]
    sizes = tuple(in_decoder(image_size, data, limits) for data, limits in files)
    if math.prod(sizes[1]) > 16e6:
        pixels = " and ".join(f"{math.prod(size) / 1e6:.0f}" for size in sizes)
        typer.echo(
            f"Comparing {pixels} megapixels, in up to "
            f"{check_files.memory_of(sizes[0], sizes[1]) / 1e9:.1f} GB of memory.",
            err=True,
        )
    small_rgb, large_rgb = (
        in_decoder(check_files.read_for_check, data, limits) for data, limits in files
    )
    checked = check_pictures(small_rgb, large_rgb, finders(FaceFinder()))
    if report is not None:
        report.write_text(html_report(small_rgb, large_rgb, checked), "utf-8")
    findings = checked.check
    if card is not None and form is not None:
        card.write_bytes(check_card(small_rgb, large_rgb, findings, form))
    if as_json:
        json_line(asdict(findings))
    else:
        for sentence in findings.sentences:
            typer.echo(sentence)
        if findings.consistency_db is not None:
            typer.echo(f"Consistency: {findings.consistency_db} dB.")
        reasons = [(place.box, place.why) for place in findings.contradictions]
        reasons += [(place.box, place.why) for place in findings.things]
        for box, why in reasons:
            typer.echo(f"  {', '.join(map(str, box))}: {why}")
    if not findings.holds:
        raise typer.Exit(_CONTRADICTS if findings.belong_together else _UNRELATED)
