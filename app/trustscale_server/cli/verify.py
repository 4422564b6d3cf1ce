"""`trustscale verify`: whether files have our mark, and whether their pixels are still the same."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trustscale_server.cli import options
from trustscale_server.cli.output import json_line
from trustscale_server.cli.sources import STREAM


def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Pictures or cards.")],
    signer: Annotated[
        Path | None,
        typer.Option(
            metavar="CERTIFICATE",
            help="A signer whom you know: the certificate and those of its issuers (PEM).",
            dir_okay=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Say what a file is, whether its pixels were changed, who signed it, and its promise.

    Nothing is sent anywhere. Exit codes: 0 all files have our mark and the pixels that were marked;
    1 others.
    """
    # Imported only now, so that a mistyped name fails at once.
    from trustscale_server.images.sandbox.client import in_decoder  # noqa: PLC0415
    from trustscale_server.platform.errors import TrustscaleError  # noqa: PLC0415
    from trustscale_server.proof import verify as checks  # noqa: PLC0415
    from trustscale_server.proof.signature import NOBODY, signers_of  # noqa: PLC0415

    known = NOBODY if signer is None else signers_of(signer.read_text())
    all_hold = True
    for file in files:
        try:
            data = sys.stdin.buffer.read() if file == STREAM else Path(file).read_bytes()
            verification = in_decoder(checks.verify, data, checks.VERIFIED_LIMITS, known=known)
        except (TrustscaleError, OSError) as error:
            if len(files) == 1:
                raise
            reason = error.detail if isinstance(error, TrustscaleError) else error.strerror
            typer.echo(f"trustscale: {file}: {reason}", err=True)
            all_hold = False
            continue
        all_hold &= verification.holds
        if as_json:
            json_line({"file": file, **asdict(verification)})
        else:
            first, *others = verification.sentences
            typer.echo("\n  ".join([f"{file}: {first}", *others]))
    if not all_hold:
        raise typer.Exit(1)
