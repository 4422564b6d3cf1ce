"""From a model file to an embedded upscaler that equals it, and whose tiles do not show."""

from __future__ import annotations

import asyncio
import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from trustscale_server.images.decode import Limits, decode
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.base import RGB
from trustscale_server.upscalers.config import EmbeddedConfig
from trustscale_server.upscalers.embedded.onnx_model import OnnxModel
from trustscale_server.upscalers.embedded.runtime import load_session
from trustscale_server.upscalers.embedded.upscaler import DEFAULT_TILE
from trustscale_server.upscalers.entries import add
from trustscale_server.upscalers.probe import pattern
from trustscale_worker.errors import WeightsError
from trustscale_worker.files import file_sha256

_MAX_FILE = 512 * 2**20
"""Bytes of a model file, also of its unpacked contents."""

_LIBRARY_REFUSED = (
    "cannot be written as ONNX ({}); serve it by `trustscale worker --model spandrel`"
)


@dataclass(frozen=True)
class Original:
    """A model and its ONNX form.

    run: float32 [1, 3, h, w] to float32 [1, 3, k·h, k·w], by the model's library.
    weights: the bytes of the ONNX file.
    """

    run: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    weights: bytes


def read_model(path: Path) -> Original:
    """Read the model in a file, by its suffix.

    Raises:
        WeightsError: too large, damaged, unsafe, of another kind, or impossible in ONNX.
    """
    if path.suffix not in _READERS:
        raise WeightsError(f"{path}: give a file of {', '.join(_READERS)}")
    for file in (path, path.with_suffix(".bin")) if path.suffix == ".param" else (path,):
        _check_size(file)
    return _READERS[path.suffix](path)


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
        if zipfile.is_zipfile(path):  # what torch writes
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(member.file_size for member in archive.infolist()))
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path}: damaged ({error})") from error
    if size > _MAX_FILE:
        raise WeightsError(f"{path}: {size} bytes; {_MAX_FILE} at most are read")


def _of_onnx(path: Path) -> Original:
    weights = path.read_bytes()
    try:
        model = onnx.load_from_string(weights)
    except Exception as error:  # protobuf's errors share no other base
        raise WeightsError(f"{path}: not an ONNX file") from error
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise WeightsError(f"{path}: its weights lie in another file; save them in this one")
    session = load_session(weights, name=path.name, threads=1, among=())
    return Original(session.run, weights)


def _of_ncnn(path: Path) -> Original:
    import ncnn  # noqa: PLC0415 - only for models of this kind

    from trustscale_worker.importing.ncnn import to_onnx  # noqa: PLC0415

    # Our own reader goes first: ncnn's checks nothing.
    model = to_onnx(path, path.with_suffix(".bin"))
    network = ncnn.Net()
    for option in ("vulkan_compute", "fp16_storage", "fp16_arithmetic", "fp16_packed"):
        setattr(network.opt, f"use_{option}", False)
    network.opt.num_threads = 1
    if network.load_param(str(path)) or network.load_model(str(path.with_suffix(".bin"))):
        raise WeightsError(f"{path}: ncnn cannot load it")

    def run(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        extractor = network.create_extractor()
        extractor.input(network.input_names()[0], ncnn.Mat(tensor[0]))
        status, output = extractor.extract(network.output_names()[0])
        if status:
            raise WeightsError(f"{path}: ncnn cannot run it")
        return np.array(output)[np.newaxis]

    return Original(run, model.SerializeToString())


def _of_torch(path: Path) -> Original:
    import torch  # noqa: PLC0415 - takes seconds that the other kinds need not wait

    from trustscale_worker.models.community import read_network  # noqa: PLC0415

    network, _ = read_network(path)
    file: Any = io.BytesIO()  # torch takes it, its types do not
    sides = {2: "h", 3: "w"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tracing: `check` judges the result
            torch.onnx.export(
                network.model.eval(),
                (torch.rand(1, 3, 32, 48),),
                file,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": sides, "output": {2: "H", 3: "W"}},
                opset_version=17,
                dynamo=False,  # the newer exporter fixes sides in more networks
            )
    except Exception as error:  # networks and exporter may raise anything
        raise WeightsError(f"{path}: {_LIBRARY_REFUSED.format(type(error).__name__)}") from error

    @torch.inference_mode()
    def run(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(network(torch.from_numpy(tensor)))

    return Original(run, file.getvalue())


_READERS: dict[str, Callable[[Path], Original]] = {
    ".pth": _of_torch,
    ".safetensors": _of_torch,
    ".onnx": _of_onnx,
    ".param": _of_ncnn,
}


# Between an imported model and its original: grey levels of 255, and dB. Some networks amplify
# rounding.
_MAX_DIFFERENCE, _LEAST_PSNR = 2.0, 70.0

_SEAM = 0.5  # grey levels by which a tile may differ from the whole
_FARTHEST = 64  # input pixels: the largest halo that leaves most of a tile of 288


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

    The source is a file of torch, ncnn or ONNX. Both are compared on `picture`, uint8 [h, w, 3];
    None: a pattern. `halo` is the overlap of tiles in input pixels; None: measured. `force`
    replaces `out`. Raises WeightsError for an unusable file or an import that differs from the
    original, ConfigError for an unusable name or path.
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
    pictures = [pattern() if picture is None else picture, pattern()[:61, :83]]
    comparisons = [compare(original.run, model, each) for each in pictures]
    halo = halo_of(model) if halo is None else halo
    tile = 4 * halo if 4 * halo > DEFAULT_TILE else None
    if target != source.resolve():
        _write(target, weights)
    settings = {"halo": halo} if tile is None else {"halo": halo, "tile": tile}
    add(configuration, {"name": name, "kind": entry.kind, "model": str(target), **settings})
    worst = Deviation(
        max(each.largest for each in comparisons), min(each.psnr for each in comparisons)
    )
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
    """Return the pixels of a file, uint8 [h, w, 3]. Raises OSError or BadInput."""
    return asyncio.run(decoding(decode, path.read_bytes(), Limits())).rgb


def _signed(weights: bytes, source: Path) -> bytes:
    """The model with the digests of its sources, so that the fingerprint covers them."""
    model = onnx.load_from_string(weights)
    files = (source, source.with_suffix(".bin")) if source.suffix == ".param" else (source,)
    onnx.helper.set_model_props(model, {file.name: file_sha256(file) for file in files})
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


@dataclass(frozen=True)
class Deviation:
    """The largest difference between two answers, in grey levels, and their PSNR in dB."""

    largest: float
    psnr: float


def compare(
    original: Callable[[NDArray[np.float32]], NDArray[np.float32]], model: OnnxModel, picture: RGB
) -> Deviation:
    """Measure how far the model's answer is from the original's, in [0, 1].

    Raises WeightsError: they differ by more than the limits, or in size.
    """
    tensor = _tensor(picture)
    try:
        expected, actual = original(tensor), _run(model, tensor)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{model.name} fails on {tensor.shape[2:]}") from error
    if expected.shape != actual.shape:
        raise WeightsError(
            f"{model.name} makes {actual.shape} where the original makes {expected.shape}"
        )
    apart = np.abs(np.clip(expected, 0, 1) - np.clip(actual, 0, 1))
    largest, mean = 255 * float(apart.max()), float(np.square(apart, dtype=np.float64).mean())
    psnr = -10 * np.log10(mean) if mean else np.inf
    if not (largest <= _MAX_DIFFERENCE and psnr >= _LEAST_PSNR):
        raise WeightsError(
            f"{model.name} differs from the original by {largest:.3g} grey levels ({psnr:.1f} dB)"
        )
    return Deviation(largest, float(psnr))


def halo_of(model: OnnxModel) -> int:
    """Return the overlap of tiles that the network needs, in input pixels.

    Its radius (how far a change of one pixel reaches), if at most 64; else the distance from a cut
    beyond which the answer changes by less than half a grey level.

    Raises WeightsError: there is none, so tiles would show.
    """
    radius = _radius(model)
    if radius <= _FARTHEST:
        return radius
    side = 3 * _FARTHEST
    picture = _tensor(np.tile(pattern(), (3, 3, 1))[:side, :side])
    cut = slice(_FARTHEST // 2, side - _FARTHEST // 2)
    whole, cropped = _run(model, picture), _run(model, picture[..., cut, cut].copy())
    k = model.scale
    inner = slice(k * cut.start, k * cut.stop)
    moved = 255 * np.abs(np.clip(whole[..., inner, inner], 0, 1) - np.clip(cropped, 0, 1)).max(
        axis=(0, 1)
    )
    rows = np.arange(moved.shape[0])
    from_edge = np.minimum(rows, rows[::-1]) // k
    distance = np.minimum(from_edge[:, np.newaxis], from_edge)
    halo = 1 + int(distance[moved > _SEAM].max(initial=0))
    if halo > _FARTHEST - 2:
        raise WeightsError(
            f"{model.name}: its answer depends on pixels more than {_FARTHEST} away, so that tiles "
            "would show; give --halo if you accept that"
        )
    return halo


def _radius(model: OnnxModel) -> int:
    """How many input pixels a change of one pixel reaches; `_FARTHEST` + 1: or more."""
    centre = _FARTHEST + 1
    picture = np.random.default_rng(0).random((1, 3, 2 * centre + 1, 2 * centre + 1), np.float32)
    before = _run(model, picture)
    picture[..., centre, centre] += 1e4
    places = np.argwhere((_run(model, picture) != before).any(axis=(0, 1))) // model.scale
    return int(np.abs(places - centre).max(initial=0))


def _run(model: OnnxModel, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    return model.session.run(tensor).copy()  # the session may reuse its output


def _tensor(picture: RGB) -> NDArray[np.float32]:
    tensor: NDArray[np.float32] = np.ascontiguousarray(
        picture.transpose(2, 0, 1)[np.newaxis], np.float32
    )
    tensor /= 255
    return tensor
