"""`trustscale upscale`: images in files and folders, in this process or on a server."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from trustscale_server.cli.output import in_command_words
from trustscale_server.cli.sources import STREAM, input_files, is_tree, raise_if_missing
from trustscale_server.cli.upscale_options import (
    AnswerOptions,
    Elsewhere,
    Output,
    RequestOptions,
    Sorting,
)
from trustscale_server.platform.command_options import with_options
from trustscale_server.platform.errors import BadRequest, ConfigError
from trustscale_server.serving.request import UpscaleRequest, options_of


@with_options(
    request_options=RequestOptions,
    answers=AnswerOptions,
    elsewhere=Elsewhere,
    sorting=Sorting,
    output=Output,
)
def upscale(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Images, folders, quoted patterns such as 'photos/**/*.jpg', or - for standard "
            "input.",
        ),
    ],
    request_options: Any,
    answers: AnswerOptions,
    elsewhere: Elsewhere,
    sorting: Sorting,
    output: Output,
) -> None:
    """Upscale images; write image, mask and answer beside each other.

    Run again, the command continues where it stopped.

    Exit codes: 0 all is done; 1 some images failed, and are listed; 2 wrong usage, or answers to
    something else would be lost; 130 interrupted.
    """
    server, rule = output.server, sorting.rule
    folder = _folder(sources, answers.out, as_json=output.as_json)
    if rule and (folder is None or request_options.mask == "none"):
        raise typer.BadParameter("--review and --review-batch sort files with a mask.")
    if elsewhere.enlarged is not None and elsewhere.enlarged.is_file() and is_tree(sources):
        raise typer.BadParameter("--enlarged is a folder where the images are in one.")
    images, skipped = input_files(sources, folder, recursive=answers.recursive)
    raise_if_missing(images)
    # Imported only now, so that a mistyped name fails at once.
    from trustscale_server.bootstrap.settings import load_settings  # noqa: PLC0415
    from trustscale_server.cli.bars import interruptible  # noqa: PLC0415
    from trustscale_server.cli.batch import (  # noqa: PLC0415
        RUN_MANIFEST,
        Run,
        adapted,
        served_request,
    )
    from trustscale_server.cli.outcomes import Outcomes  # noqa: PLC0415
    from trustscale_server.cli.service import PATIENT_RETRIES, service_client  # noqa: PLC0415

    requested = _request(request_options)
    manifest = folder / RUN_MANIFEST if folder is not None and is_tree(sources) else None
    many = len(images) > 1
    settings = load_settings() if server is None else None

    async def work() -> Run:
        async with service_client(
            server,
            needs_key=False,
            retries=PATIENT_RETRIES,
            settings=settings,
            upscaler=requested.upscaler,
            many=many,
            routes=("upscalers", "upscale", "uploads", "batches"),
        ) as service:
            request = await adapted(service, requested, images) if answers.adapt else requested
            run = Run(
                service=service,
                server=server,
                served=await served_request(service, request),
                outcomes=Outcomes(output.as_json, output.verbose),
                overwrite=answers.overwrite,
                extras=answers.extras,
                review=rule,
                enlarged=elsewhere.enlarged,
                manifest=manifest,
            )
            if folder is None:
                await run.to_stream(images[0])
            else:
                at_once = settings.max_in_flight if settings else 4
                await run.to_folder(images, folder, answers.at_once or at_once)
            return run

    with interruptible("What is done is kept; run the same command again to continue."):
        run = asyncio.run(work())
    run.write_manifest()
    outcomes = run.outcomes
    outcomes.print_summary(rule, skipped, many=many)
    if outcomes.failed or outcomes.stopped:
        raise typer.Exit(1)


def _folder(sources: list[str], out: str | None, *, as_json: bool) -> Path | None:
    """Where answers are written; None: the picture alone, to standard output.

    Raises BadParameter.
    """
    if out != STREAM and not (out is None and sources == [STREAM]):
        return Path(out or ".")
    if len(sources) > 1 or is_tree(sources) or as_json:
        raise typer.BadParameter("--out - takes one image, and no --json.")
    if sys.stdout.isatty():
        raise typer.BadParameter("a picture is not written to a terminal: name a file with >.")
    return None


def _request(options: Any) -> UpscaleRequest:
    """The request of `RequestOptions`. Raises BadParameter, ConfigError."""
    if options.to is not None and options.print_ is not None:
        raise typer.BadParameter("--to and --print both name a size: give one.")
    fields = {**asdict(options), "to": options.print_ or options.to}
    del fields["print_"]
    try:
        return options_of(**fields)
    except BadRequest as error:
        raise ConfigError(in_command_words(error.detail)) from None
