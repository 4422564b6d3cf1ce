"""From a model file to an embedded upscaler."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnx
from pydantic import BaseModel, ValidationError

from app.errors import ConfigError as Unfit
from app.images.decode import Limits, decode
from app.images.decoders import decoding
from app.upscalers.base import RGB
from app.upscalers.config import EmbeddedConfig
from app.upscalers.embedded import DEFAULT_TILE
from app.upscalers.entry import add
from app.upscalers.probe import pattern
from app.upscalers.runtime import OnnxModel
from workers.errors import ConfigError, WeightsError
from workers.files import file_sha256
from workers.importing.check import Difference, compare, halo_of
from workers.importing.original import read


class Imported(BaseModel):
    """What was imported.

    halo: overlap of tiles, in input pixels.
    largest_difference: to the original, in grey levels of 255; `psnr_db` None: there is none.
    """

    name: str
    model: Path
    sha256: str
    scale: int
    halo: int
    largest_difference: float
    psnr_db: float | None
    configuration: Path


def import_model(
    source: Path,
    configuration: Path,
    *,
    name: str,
    out: Path,
    picture: RGB | None = None,
    halo: int | None = None,
    force: bool = False,
) -> Imported:
    """Write a model's ONNX file, unless it is one already, and its entry in the settings file.

    Args:
        source: a file of torch, ncnn or ONNX.
        configuration: the settings file.
        name: of the upscaler.
        out: the ONNX file to write.
        picture: to compare on, uint8 [h, w, 3]; None: a pattern.
        halo: overlap of tiles, input pixels; None: measured.
        force: replace `out`.

    Raises:
        WeightsError: an unusable file, or an import that differs from the original.
        ConfigError: an unusable name or path.
    """
    target = source.resolve() if source.suffix == ".onnx" else out.resolve()
    try:
        entry = EmbeddedConfig(name=name, model=target)
    except ValidationError as error:
        raise ConfigError(f"name {name!r}: letters, digits, dot, dash and underscore") from error
    if target.exists() and target != source.resolve() and not force:
        raise ConfigError(f"{target} exists; give --force to replace it")
    original = read(source)
    weights = original.weights if target == source.resolve() else _signed(original.weights, source)
    try:
        model = OnnxModel(weights, name=source.name, threads=1)
    except Unfit as error:
        raise WeightsError(error.detail) from error
    pictures = [pattern() if picture is None else picture, pattern()[:61, :83]]
    found = [compare(original.run, model, each) for each in pictures]
    halo = halo_of(model) if halo is None else halo
    tile = 4 * halo if 4 * halo > DEFAULT_TILE else None
    if target != source.resolve():
        _write(target, weights)
    settings = {"halo": halo} if tile is None else {"halo": halo, "tile": tile}
    add(configuration, {"name": name, "kind": entry.kind, "model": str(target), **settings})
    worst = Difference(max(each.largest for each in found), min(each.psnr for each in found))
    return Imported(
        name=name,
        model=target,
        sha256=file_sha256(target),
        scale=model.scale,
        halo=halo,
        largest_difference=round(worst.largest, 4),
        psnr_db=round(worst.psnr, 1) if np.isfinite(worst.psnr) else None,
        configuration=configuration,
    )


def picture_of(path: Path) -> RGB:
    """The pixels of a file, uint8 [h, w, 3]. Raises OSError or BadInput."""
    return asyncio.run(decoding(decode, path.read_bytes(), Limits())).rgb


def _signed(weights: bytes, source: Path) -> bytes:
    """The model with the digests of its sources, so that the fingerprint covers them."""
    model = onnx.load_from_string(weights)
    parts = (source, source.with_suffix(".bin")) if source.suffix == ".param" else (source,)
    onnx.helper.set_model_props(model, {part.name: file_sha256(part) for part in parts})
    signed: bytes = model.SerializeToString(deterministic=True)
    return signed


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
