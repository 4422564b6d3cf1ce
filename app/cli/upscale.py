"""`trustscale upscale`: images in files, without a server."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.progress import Progress

from app.cli.local import local, progress_bar
from app.errors import TrustscaleError
from app.serving.answer import Result
from app.serving.files import MASK, TRUST, image_file, png_overlay, png_text
from app.serving.request import UpscaleRequest
from app.serving.service import UpscaleService
from app.serving.work import Work


def upscale(
    files: Annotated[list[Path], typer.Argument(help="Images of any common format.")],
    out: Annotated[Path, typer.Option(help="Folder for the files of the answers.")] = Path(),
    upscaler: Annotated[str | None, typer.Option(help="Name; default: the first one.")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Largest expected error tolerated in the mask.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes.")] = None,
    background: Annotated[
        str | None, typer.Option(help="Colour that transparent pixels are flattened onto.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Group that the images belong to, of those of the calibration."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="png, webp, avif, jpeg or tiff (with the mask inside).")
    ] = "png",
    quality: Annotated[int | None, typer.Option(help="Of webp, avif and jpeg.")] = None,
    metadata: Annotated[
        str, typer.Option(help="keep: EXIF, XMP, georeference without GPS; keep-gps: with it.")
    ] = "none",
    fit: Annotated[
        int | None, typer.Option(help="Longest side that images are reduced to before.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Upscale images; write image, mask, trust level, overlay and answer beside each other."""
    request = UpscaleRequest(
        upscaler,
        alpha,
        seed,
        background,
        group=group,
        format=form,
        quality=quality,
        metadata=metadata,
        fit=fit,
    )
    stems = Counter(path.stem for path in files)
    if twice := [stem for stem, count in stems.items() if count > 1]:
        raise typer.BadParameter(f"Several files are called {twice[0]}; one would replace another.")
    out.mkdir(parents=True, exist_ok=True)
    if asyncio.run(_run(files, out, request, as_json=as_json)):
        raise typer.Exit(1)


async def _run(files: list[Path], out: Path, request: UpscaleRequest, *, as_json: bool) -> int:
    """Upscale the files in turn; the number of those that failed."""
    failed = 0
    async with local(request.upscaler) as session:
        service = session.service
        with progress_bar() as progress:
            for path in files:
                try:
                    result = await _one(path, out, request, service, progress)
                except (TrustscaleError, OSError) as error:
                    failed += 1
                    detail = error.strerror if isinstance(error, OSError) else error.detail
                    typer.echo(f"trustscale: {path}: {detail}", err=True)
                    continue
                typer.echo(json.dumps(_document(result)) if as_json else _summary(path, result))
    return failed


async def _one(
    path: Path, out: Path, request: UpscaleRequest, service: UpscaleService, progress: Progress
) -> Result:
    prepared = await service.prepare(await asyncio.to_thread(path.read_bytes), request)
    task = progress.add_task(path.name, total=prepared.calibration.pipeline.samples)
    answer = await service.run(
        prepared, on_progress=lambda done, total: progress.update(task, completed=done, total=total)
    )
    progress.remove_task(task)
    await service.results.delete(answer.result.id)  # the files are the result here
    await asyncio.to_thread(_write, out / path.stem, answer)
    return answer.result


def _write(stem: Path, work: Work) -> None:
    result, files = work.result, work.files
    image = image_file(result)
    for name in (image, MASK, TRUST):
        _beside(stem, name).write_bytes(files[name])
    mask = np.asarray(Image.open(io.BytesIO(files[MASK])))
    _beside(stem, "overlay.png").write_bytes(
        png_overlay(files[image], mask, png_text(work.calibration, work.alpha, work.group))
    )
    document = json.dumps(_document(result), indent=2, ensure_ascii=False)
    _beside(stem, "result.json").write_text(document + "\n", "utf-8")


def _document(result: Result) -> dict[str, Any]:
    """The answer as JSON values; it has no links, since nothing is kept but the files."""
    return result.model_dump(mode="json", exclude={"links"})


def _beside(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}.{name}")


def _summary(path: Path, result: Result) -> str:
    first = (
        f"{path}: {result.width}×{result.height}, {result.trusted_fraction:.1%} trusted at "
        f"α = {result.alpha:g} (typicality {result.typicality:.2f}, seed {result.seed})"
    )
    return "\n".join([first, *(f"  warning: {warning}" for warning in result.warnings)])
