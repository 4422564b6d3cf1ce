"""The wire format of the Open Inference Protocol, written and read.

A message is a JSON object whose tensors hold numbers or, with the binary extension, the lengths of
raw little-endian tensors that follow; a header gives the length of the JSON part. Requests list
`inputs`, answers `outputs`. Sources: inference_rest.md of the Open Inference Protocol,
extension_binary_data.md of Triton.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trustscale_server.upscalers.bounded_json import TooManyValues, parse

HEADER_LENGTH = "Inference-Header-Content-Length"

Chunk = bytes | memoryview
_Side = Literal["inputs", "outputs"]

_DTYPES = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()}


class Malformed(ValueError):
    """A message that does not follow the protocol."""


class TooLong(Malformed):
    """A message with more values than were expected."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A received tensor.

    raw: its bytes, a view of the message; None: `data` holds JSON numbers.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: memoryview | None = None
    data: object = None

    def numbers(self) -> NDArray[Any]:
        """Return the values in their shape; a view of the message if raw.

        Raises:
            Malformed: an unknown datatype, or values that do not fit it or the shape.
        """
        dtype = _DTYPES.get(self.datatype)
        if dtype is None:
            raise Malformed(f"{self.name!r}: datatype {self.datatype!r} holds no numbers here")
        if self.raw is not None:
            if len(self.raw) != math.prod(self.shape) * dtype.itemsize:
                raise Malformed(f"{self.name!r}: {len(self.raw)} bytes for shape {self._shape}")
            return self._shaped(np.frombuffer(self.raw, dtype))
        try:
            values = np.asarray(items(self.data, f"{self.name!r}: 'data'"))
        except (ValueError, OverflowError, RecursionError) as error:
            raise Malformed(f"{self.name!r}: ragged 'data'") from error
        if values.size != math.prod(self.shape):
            raise Malformed(f"{self.name!r}: {values.size} values for shape {self._shape}")
        if values.size and not _fit(values, dtype):
            raise Malformed(f"{self.name!r}: 'data' must be of {self.datatype}")
        with np.errstate(over="ignore"):
            return self._shaped(values.astype(dtype))

    def file(self) -> bytes:
        """Return the one element of a BYTES tensor. Raises Malformed."""
        if self.datatype != "BYTES" or math.prod(self.shape) != 1:
            raise Malformed(f"{self.name!r}: an encoded file is BYTES of shape [1]")
        if self.raw is None:
            raise Malformed(f"{self.name!r}: encoded files need the binary tensor extension")
        # An element follows its length, four bytes little-endian.
        if len(self.raw) < 4 or int.from_bytes(self.raw[:4], "little") != len(self.raw) - 4:
            raise Malformed(f"{self.name!r}: its length prefix does not match its size")
        return bytes(self.raw[4:])

    @property
    def _shape(self) -> list[int]:
        return list(self.shape)

    def _shaped(self, values: NDArray[Any]) -> NDArray[Any]:
        try:
            return values.reshape(self.shape)
        except ValueError as error:  # impossible sides of no values
            raise Malformed(f"{self.name!r}: impossible shape {self._shape}") from error


def encode_message(
    document: Mapping[str, Any], side: _Side, tensors: Mapping[str, NDArray[Any] | bytes],
    *, binary: bool,
) -> tuple[list[Chunk], dict[str, str]]:  # fmt: skip
    """Return the body of a message, in parts that copy no array, and its headers.

    `side` lists the tensors, raw if `binary`, else JSON numbers; bytes are an encoded file, for
    which JSON raises ValueError.
    """
    entries, tail = [], list[Chunk]()
    for name, value in tensors.items():
        array = value if isinstance(value, np.ndarray) else None
        entry: dict[str, Any] = {
            "name": name,
            "shape": [1] if array is None else list(array.shape),
            "datatype": "BYTES" if array is None else _DATATYPES[array.dtype.newbyteorder("<")],
        }
        entries.append(entry)
        if binary:
            chunks = _raw(value)
            entry["parameters"] = {"binary_data_size": sum(len(chunk) for chunk in chunks)}
            tail += chunks
        elif array is None:
            raise ValueError("an encoded file needs the binary tensor format")
        else:
            entry["data"] = array.ravel().tolist()
    head = json.dumps({**document, side: entries}).encode()
    length = str(
        len(head) + sum(len(chunk) for chunk in tail)
    )  # some servers read no chunked bodies
    if not binary:
        return [head], {"Content-Type": "application/json", "Content-Length": length}
    return [head, *tail], {
        "Content-Type": "application/octet-stream",
        "Content-Length": length,
        HEADER_LENGTH: str(len(head)),
    }


def decode_message(
    body: bytes | bytearray | memoryview,
    header_length: str | None,
    side: _Side,
    max_values: float = math.inf,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a message and its tensors by name.

    `header_length` None: all of the body is JSON. max_values: of the JSON part.

    Raises:
        Malformed, TooLong.
    """
    document, tail = _split(memoryview(body), header_length, max_values)
    tensors: dict[str, Tensor] = {}
    for entry in items(document.get(side), f"{side!r}"):
        tensor, tail = _tensor(members(entry, f"an entry of {side!r}"), tail)
        if tensor.name in tensors:
            raise Malformed(f"{tensor.name!r} is given twice")
        tensors[tensor.name] = tensor
    if len(tail):
        raise Malformed(f"{len(tail)} bytes after the last tensor belong to none")
    return document, tensors


def members(value: object, where: str) -> dict[str, Any]:
    """Return the value, or raise Malformed unless it is a JSON object."""
    if not isinstance(value, dict):
        raise Malformed(f"{where} must be a JSON object")
    return value


def items(value: object, where: str) -> list[Any]:
    """Return the value, or raise Malformed unless it is a JSON list."""
    if not isinstance(value, list):
        raise Malformed(f"{where} must be a list")
    return value


def _split(
    body: memoryview, header_length: str | None, max_values: float
) -> tuple[dict[str, Any], memoryview]:
    length = len(body)
    if header_length is not None:
        digits = header_length if header_length.isascii() and header_length.isdigit() else ""
        if not 0 < len(digits) < 19:
            raise Malformed(f"{HEADER_LENGTH}: not a number")
        length = int(digits)
        if length > len(body):
            raise Malformed(f"{HEADER_LENGTH} is {length}, but the body has {len(body)} bytes")
    try:
        document = parse(bytes(body[:length]), max_values)
    except TooManyValues as error:
        raise TooLong(str(error)) from error
    except ValueError as error:
        raise Malformed(f"not valid JSON ({error})") from error
    return members(document, "the message"), body[length:]


def _tensor(entry: dict[str, Any], tail: memoryview) -> tuple[Tensor, memoryview]:
    name, datatype = entry.get("name"), entry.get("datatype")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise Malformed("a tensor has a name and a datatype")
    shape = tuple(items(entry.get("shape"), f"{name!r}: 'shape'"))
    if any(type(side) is not int or not 0 <= side < 2**31 for side in shape):
        raise Malformed(f"{name!r}: a shape holds non-negative integers")
    parameters = members(entry.get("parameters", {}), f"{name!r}: 'parameters'")
    refuse_shared_memory(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise Malformed(f"{name!r}: neither 'data' nor 'binary_data_size'")
        return Tensor(name, datatype, shape, data=entry["data"]), tail
    if type(size) is not int or not 0 <= size <= len(tail):
        raise Malformed(f"{name!r}: binary_data_size {size!r}, but {len(tail)} bytes are left")
    return Tensor(name, datatype, shape, tail[:size]), tail[size:]


def refuse_shared_memory(parameters: Mapping[str, Any]) -> None:
    """Raise Malformed if a tensor refers to shared memory."""
    if any(key.startswith("shared_memory") for key in parameters):
        raise Malformed("shared memory is not supported; send the tensor itself")


def _raw(value: NDArray[Any] | bytes) -> list[Chunk]:
    if isinstance(value, bytes):
        return [len(value).to_bytes(4, "little"), value]
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return [little.reshape(-1).view(np.uint8).data]


def _fit(values: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Whether a type holds these JSON numbers without wrapping or rounding."""
    if dtype.kind not in "iu":
        return values.dtype.kind in ("b" if dtype.kind == "b" else "iuf")
    limits = np.iinfo(dtype)
    return values.dtype.kind in "iu" and bool(
        limits.min <= int(values.min()) and int(values.max()) <= limits.max
    )
