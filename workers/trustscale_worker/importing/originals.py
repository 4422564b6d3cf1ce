"""Models in files of torch, ncnn and ONNX: run by their own libraries, and as ONNX."""

from __future__ import annotations

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

from trustscale_server.upscalers.embedded.runtime import load_session
from trustscale_worker.errors import WeightsError

_MAX_FILE = 512 * 2**20
"""Bytes of a model file, also of its unpacked contents."""


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
    for file in model_files(path):
        _check_size(file)
    return _READERS[path.suffix](path)


def model_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a model: of ncnn two."""
    return (path, path.with_suffix(".bin")) if path.suffix == ".param" else (path,)


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

    from trustscale_worker.models.community_file import read_network  # noqa: PLC0415

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
        raise WeightsError(
            f"{path}: cannot be written as ONNX ({type(error).__name__}); serve it by "
            "`trustscale worker --model spandrel`"
        ) from error

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
