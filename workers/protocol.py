"""The Open Inference Protocol (v2) with the binary tensor extension, as bytes.

A request is a JSON object, optionally followed by raw little-endian tensors whose lengths it
names; the length of the JSON part is in a header. An answer has the same form. Everything
here is pure: bytes in, arrays out, and back.

Sources: "Open Inference Protocol", inference over REST; Triton's "Binary Tensor Data
Extension".
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.errors import InputError, TooLarge
from workers.images import decode_image
from workers.settings import WorkerSettings

__all__ = ["HEADER_LENGTH", "Answer", "InferRequest", "json_parts", "parse_request"]

HEADER_LENGTH = "Inference-Header-Content-Length"

# Bytes handed to the socket at a time: large enough to cost few calls, small enough that a
# buffer in between never holds much.
CHUNK = 2**20

_DTYPES: Mapping[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "INT64": np.dtype("<i8")}
_RANGES = {"UINT8": (0, 255), "INT64": (-(2**63), 2**63 - 1)}
OUTPUTS = ("samples", "folded")
_INPUTS: Mapping[str, tuple[str, ...]] = {"image": ("UINT8", "BYTES"), "seeds": ("INT64",)}


@dataclass(frozen=True)
class InferRequest:
    """A checked request."""

    image: NDArray[np.uint8]
    """uint8[h, w, 3]; may be a view into the request's body."""

    seeds: NDArray[np.int64]
    """int64[M]."""

    id: str | None
    """The client's name for the request; returned as it is."""

    binary: bool
    """Whether the answer goes back as raw bytes."""

    output: str
    """What is asked for: `samples` or `folded`."""

    timeout_s: float | None
    """How long the client is willing to wait in the queue."""


@dataclass(frozen=True)
class Answer:
    """The output and what to say about it."""

    output: str
    """Its name."""

    array: NDArray[np.uint8]
    """`samples`: uint8[M, kh, kw, 3]; `folded`: uint8[n]. C-contiguous."""

    model: str
    version: str
    id: str | None
    fingerprint: str

    def head(self, *, binary: bool) -> dict[str, Any]:
        """The JSON object without `data`."""
        output: dict[str, Any] = {
            "name": self.output,
            "datatype": "UINT8",
            "shape": list(self.array.shape),
        }
        if binary:
            output["parameters"] = {"binary_data_size": self.array.nbytes}
        head: dict[str, Any] = {
            "model_name": self.model,
            "model_version": self.version,
            "parameters": {"fingerprint": self.fingerprint},
            "outputs": [output],
        }
        return head if self.id is None else {"id": self.id, **head}

    def chunks(self) -> Iterator[memoryview]:
        """The output's bytes in order, without copying any."""
        stack = self.array.reshape(-1).data
        for first in range(0, len(stack), CHUNK):
            yield stack[first : first + CHUNK]


def json_parts(answer: Answer) -> Iterator[bytes]:
    """The answer as one JSON document, piece by piece."""
    # The head ends with its only output: inside its three brackets is the place for the data.
    head, brackets = json.dumps(answer.head(binary=False)).encode(), b"}]}"
    yield head.removesuffix(brackets) + b', "data": ['
    for number, chunk in enumerate(answer.chunks()):
        yield (b", " if number else b"") + ", ".join(map(str, chunk.tolist())).encode()
    yield b"]" + brackets


def parse_request(
    body: memoryview, header_length: str | None, settings: WorkerSettings
) -> InferRequest:
    """Read and check a request to `infer`.

    Args:
        body: the whole body.
        header_length: value of the `Inference-Header-Content-Length` header, if sent.
        settings: limits.

    Raises:
        InputError: anything malformed, missing, unknown or of a wrong type or shape.
        TooLarge: over a limit.
    """
    document, tail = _split(body, header_length)
    tensors = _inputs(document, tail)
    for name in _INPUTS:
        if name not in tensors:
            raise InputError(f"input {name!r} is missing")
    seeds = _numbers(tensors["seeds"])
    if seeds.ndim != 1 or not len(seeds):
        raise InputError(f"input 'seeds': expected shape [M] with M >= 1, got {list(seeds.shape)}")
    if len(seeds) > settings.max_samples:
        raise TooLarge(f"{len(seeds)} samples asked for; at most {settings.max_samples} allowed")
    parameters = _object(document.get("parameters", {}), "parameters")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InputError("'id' must be a string")
    output, binary = _output(document, parameters)
    return InferRequest(
        image=_image(tensors["image"], settings),
        seeds=seeds,
        id=identity,
        binary=binary,
        output=output,
        timeout_s=_timeout(parameters),
    )


@dataclass(frozen=True)
class _Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: memoryview | None
    data: object


def _split(body: memoryview, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    length = len(body)
    if header_length is not None:
        if not header_length.isascii() or not header_length.isdigit():
            raise InputError(f"{HEADER_LENGTH}: not a number")
        length = int(header_length)
        if length > len(body):
            raise InputError(f"{HEADER_LENGTH} is {length}, but the body has {len(body)} bytes")
    try:
        document = json.loads(bytes(body[:length]))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not valid JSON ({error})") from error
    return _object(document, "the request"), body[length:]


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a JSON object")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list")
    return value


def _inputs(document: dict[str, Any], tail: memoryview) -> dict[str, _Tensor]:
    tensors: dict[str, _Tensor] = {}
    for entry in _list(document.get("inputs"), "'inputs'"):
        tensor, tail = _tensor(_object(entry, "an input"), tail)
        if tensor.name in tensors:
            raise InputError(f"input {tensor.name!r} is given twice")
        tensors[tensor.name] = tensor
    if len(tail):
        raise InputError(f"{len(tail)} bytes after the last tensor belong to no input")
    return tensors


def _tensor(entry: dict[str, Any], tail: memoryview) -> tuple[_Tensor, memoryview]:
    name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
    if not isinstance(name, str) or name not in _INPUTS:
        raise InputError(f"unknown input {name!r}; this model takes {', '.join(_INPUTS)}")
    if datatype not in _INPUTS[name]:
        raise InputError(
            f"input {name!r}: datatype {datatype!r}; expected {' or '.join(_INPUTS[name])}"
        )
    sizes = _list(shape, f"input {name!r}: 'shape'")
    if any(type(size) is not int or size < 0 for size in sizes):
        raise InputError(f"input {name!r}: shape {sizes} must hold non-negative integers")
    parameters = _object(entry.get("parameters", {}), f"input {name!r}: 'parameters'")
    _refuse_shared_memory(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise InputError(f"input {name!r}: neither 'data' nor 'binary_data_size'")
        return _Tensor(name, datatype, tuple(sizes), None, entry["data"]), tail
    if type(size) is not int or not 0 <= size <= len(tail):
        raise InputError(
            f"input {name!r}: binary_data_size {size!r}, but {len(tail)} bytes are left"
        )
    return _Tensor(name, datatype, tuple(sizes), tail[:size], None), tail[size:]


def _refuse_shared_memory(parameters: Mapping[str, Any]) -> None:
    if any(key.startswith("shared_memory") for key in parameters):
        raise InputError("shared memory is not supported; send the tensor itself")


def _numbers(tensor: _Tensor) -> NDArray[Any]:
    dtype = _DTYPES[tensor.datatype]
    count = int(np.prod(tensor.shape, dtype=object)) if tensor.shape else 1
    if tensor.raw is not None:
        if len(tensor.raw) != count * dtype.itemsize:
            raise InputError(
                f"input {tensor.name!r}: {len(tensor.raw)} bytes for shape {list(tensor.shape)}"
            )
        return np.frombuffer(tensor.raw, dtype).reshape(tensor.shape)
    try:
        values = np.asarray(_list(tensor.data, f"input {tensor.name!r}: 'data'"))
    except (ValueError, OverflowError) as error:
        raise InputError(f"input {tensor.name!r}: ragged 'data'") from error
    if values.size != count:
        raise InputError(
            f"input {tensor.name!r}: {values.size} values for shape {list(tensor.shape)}"
        )
    low, high = _RANGES[tensor.datatype]
    if values.size and (
        values.dtype.kind not in "iu" or int(values.min()) < low or int(values.max()) > high
    ):
        raise InputError(f"input {tensor.name!r}: 'data' must be integers from {low} to {high}")
    return values.astype(dtype).reshape(tensor.shape)


def _image(tensor: _Tensor, settings: WorkerSettings) -> NDArray[np.uint8]:
    if tensor.datatype == "BYTES":
        return decode_image(_file(tensor), settings.max_pixels)
    shape = tensor.shape
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(f"input 'image': expected shape [H, W, 3], got {list(shape)}")
    if shape[0] * shape[1] > settings.max_pixels:
        raise TooLarge(
            f"image of {shape[1]}x{shape[0]} pixels; at most {settings.max_pixels} allowed"
        )
    pixels: NDArray[np.uint8] = _numbers(tensor)
    return pixels


def _file(tensor: _Tensor) -> memoryview:
    if tensor.shape != (1,):
        raise InputError("input 'image': BYTES must have shape [1], one encoded file")
    if tensor.raw is None:
        raise InputError("input 'image': encoded files need the binary tensor extension")
    # Every element is preceded by its length, four bytes little-endian.
    length = int.from_bytes(tensor.raw[:4], "little")
    if len(tensor.raw) < 4 or length != len(tensor.raw) - 4:
        raise InputError("input 'image': its length prefix does not match its size")
    return tensor.raw[4:]


def _output(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[str, bool]:
    """The output that is asked for, and whether as raw bytes."""
    binary = _flag(parameters.get("binary_data_output", False), "binary_data_output")
    outputs = _list(document.get("outputs", []), "'outputs'")
    if len(outputs) > 1:
        raise InputError("one output at a time")
    name: Any = "samples"
    for entry in outputs:
        output = _object(entry, "an output")
        name = output.get("name")
        if name not in OUTPUTS:
            raise InputError(f"unknown output {name!r}; this model gives {', '.join(OUTPUTS)}")
        chosen = _object(output.get("parameters", {}), f"output {name!r}: 'parameters'")
        _refuse_shared_memory(chosen)
        if chosen.get("classification"):
            raise InputError(f"output {name!r}: classification makes no sense for images")
        binary = _flag(chosen.get("binary_data", binary), "binary_data")
    if name == "folded" and not binary:
        raise InputError("output 'folded' needs the binary tensor extension")
    return name, binary


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"parameter {name!r} must be true or false")
    return value


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    value = parameters.get("timeout")  # microseconds, as Triton has it; 0: none
    if value is None or value == 0:
        return None
    if type(value) is not int or value < 0:
        raise InputError("parameter 'timeout' must be a number of microseconds")
    return value / 1e6
