"""From a model file to an embedded upscaler that equals it, and whose tiles do not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from pydantic import BaseModel, ValidationError

from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.embedded.onnx_model import OnnxModel
from trustscale_server.upscalers.embedded.upscaler import DEFAULT_TILE, EmbeddedConfig
from trustscale_server.upscalers.entries import add
from trustscale_server.upscalers.pattern import pattern
from trustscale_worker.errors import WeightsError
from trustscale_worker.files import file_sha256
from trustscale_worker.importing.comparison import deviation_of, halo_of, picture_of
from trustscale_worker.importing.originals import model_files, read_model


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
    picture: Path | None = None,
    halo: int | None = None,
    force: bool = False,
) -> Imported:
    """Write a model's ONNX file, unless it is one already, and its entry in the settings file.

    The source is a file of torch, ncnn or ONNX; both are compared on `picture`, a file, or else a
    pattern. `halo` is the overlap of tiles in input pixels; None: measured. `force` replaces `out`.
    Raises WeightsError for an unusable file or an import that differs from the original,
    ConfigError for an unusable name or path, BadInput or OSError for an unusable picture.
    """
    target = source.resolve() if source.suffix == ".onnx" else out.resolve()
    try:
        entry = EmbeddedConfig(name=name, model=target)
    except ValidationError as error:
        raise ConfigError(f"name {name!r}: letters, digits, dot, dash and underscore") from error
    if target.exists() and target != source.resolve() and not force:
        raise ConfigError(f"{target} exists; give --force to replace it")
    original = read_model(source)
    weights = original.weights if target == source.resolve() else _signed(original.weights, source)
    try:
        model = OnnxModel(weights, name=source.name, threads=1)
    except ConfigError as error:
        raise WeightsError(error.detail) from error
    deviation = deviation_of(
        original.run, model, pattern() if picture is None else picture_of(picture)
    )
    halo = halo_of(model) if halo is None else halo
    tile = 4 * halo if 4 * halo > DEFAULT_TILE else None
    if target != source.resolve():
        _write(target, weights)
    settings = {"halo": halo} if tile is None else {"halo": halo, "tile": tile}
    add(configuration, {"name": name, "kind": entry.kind, "model": str(target), **settings})
    return Imported(
        name=name,
        model=target,
        sha256=file_sha256(target),
        scale=model.scale,
        halo=halo,
        largest_difference=round(deviation.largest, 4),
        psnr_db=round(deviation.psnr, 1) if np.isfinite(deviation.psnr) else None,
        configuration=configuration,
    )


def _signed(weights: bytes, source: Path) -> bytes:
    """The model with the digests of its sources, so that the fingerprint covers them."""
    model = onnx.load_from_string(weights)
    digests = {file.name: file_sha256(file) for file in model_files(source)}
    onnx.helper.set_model_props(model, digests)
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
