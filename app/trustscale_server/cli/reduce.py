"""`trustscale reduce`: photographs made small, for a program that enlarges them elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from trustscale_server.cli.sources import InputFile, input_files, targets
from trustscale_server.platform.errors import BadImage, BadInput, ConfigError

_MIN_SIDE: Final = 32  # of a reduced picture, in pixels


def reduce(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Photographs of high resolution.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for x/, y/ and enlarged/.")],
    scale: Annotated[
        int, typer.Option(min=2, max=16, help="How many times smaller; as the program enlarges.")
    ] = 4,
    jpeg: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Save x/ as JPEG files of this quality, like the pictures to come; default: PNG.",
        ),
    ] = None,
) -> None:
    """Make small pictures of photographs, for calibrating a program that has no address.

    Enlarge what is in x/ with that program, put its pictures into enlarged/, and calibrate the
    folder with an upscaler of the kind supplied. Exit codes: 0 all are made; 1 some cannot be read.
    """
    sources, _ = input_files([str(folder)], out, recursive=False)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty: name a new folder with --out.")
    stems = targets(sources, Path())
    for role in ("x", "y", "enlarged"):
        (out / role).mkdir(parents=True, exist_ok=True)
    failed = 0
    for source, stem in zip(sources, stems, strict=True):
        try:
            _write_pair(source, stem.name, out, scale, jpeg)
        except BadInput as error:
            failed += 1
            typer.echo(f"trustscale: {source}: {error.detail}", err=True)
    typer.echo(
        f"{len(sources) - failed} pictures are in {out / 'x'}. Enlarge them ×{scale} with your "
        f"program into {out / 'enlarged'}, then: trustscale calibrate {out} --upscaler NAME"
    )
    if failed:
        raise typer.Exit(1)


def _write_pair(source: InputFile, stem: str, out: Path, scale: int, jpeg: int | None) -> None:
    """Write a photograph, cut to whole pixels of its reduction, and that. Raises BadInput."""
    # Imported only now, so that a mistyped name fails at once.
    from PIL import Image  # noqa: PLC0415

    from trustscale_server.images.decoding.decode import decode  # noqa: PLC0415
    from trustscale_server.images.limits import PAIR_LIMITS  # noqa: PLC0415
    from trustscale_server.images.sandbox.client import in_decoder  # noqa: PLC0415
    from trustscale_server.kinds.degradation import Degradation  # noqa: PLC0415
    from trustscale_server.kinds.degrade import crop_to_multiple, make_input  # noqa: PLC0415

    assert source.path is not None  # noqa: S101 - of a folder
    rgb = in_decoder(decode, source.path.read_bytes(), PAIR_LIMITS).rgb
    truth = crop_to_multiple(rgb, scale)
    if min(truth.shape[:2]) < _MIN_SIDE * scale:
        raise BadImage(f"It is smaller than {_MIN_SIDE * scale} pixels.")
    small = Image.fromarray(make_input(truth, scale, Degradation(), 0).pixels)
    Image.fromarray(truth).save(out / "y" / f"{stem}.png", compress_level=1)
    if jpeg is None:
        small.save(out / "x" / f"{stem}.png")
    else:
        small.save(out / "x" / f"{stem}.jpg", quality=jpeg)
