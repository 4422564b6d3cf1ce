"""The wire format of the Open Inference Protocol, without any network.

JSON, and the binary tensor extension: a JSON header, its length in a header field, then the raw
little-endian tensors. Binary matters: a 512 × 512 image takes seconds as JSON numbers. Sources:
inference_rest.md of the Open Inference Protocol, extension_binary_data.md of Triton.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.upscalers.remote.errors import ProtocolError
from app.upscalers.remote.translation import Reply

HEADER_LENGTH = "Inference-Header-Content-Length"

_DTYPES = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named input. BYTES tensors hold one element, `raw`."""

    name: str
    datatype: str
    array: NDArray[Any] | None = None
    raw: bytes = b""

    @property
    def shape(self) -> list[int]:
        return [1] if self.array is None else list(self.array.shape)

    def parts(self) -> list[bytes | memoryview]:
        """The raw bytes, without a copy of an array."""
        if self.array is None:
            return [struct.pack("<I", len(self.raw)), self.raw]
        return [np.ascontiguousarray(self.array).data.cast("B")]


def encode(
    inputs: Sequence[Tensor], output: str, parameters: Mapping[str, Any], *, binary: bool
) -> tuple[list[bytes | memoryview], dict[str, str]]:
    """The body, in parts, and the headers of an inference request."""
    document: dict[str, Any] = {"inputs": [], "outputs": [{"name": output}]}
    if parameters:
        document["parameters"] = dict(parameters)
    tail: list[bytes | memoryview] = []
    for tensor in inputs:
        entry: dict[str, Any] = {
            "name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype,
        }  # fmt: skip
        if binary:
            parts = tensor.parts()
            entry["parameters"] = {
                "binary_data_size": sum(memoryview(part).nbytes for part in parts)
            }
            tail += parts
        elif tensor.array is None:
            raise ValueError("an encoded file needs the binary tensor format")
        else:
            entry["data"] = tensor.array.ravel().tolist()
        document["inputs"].append(entry)
    if not binary:
        return [json.dumps(document).encode()], {"Content-Type": "application/json"}
    document["outputs"][0]["parameters"] = {"binary_data": True}
    head = json.dumps(document).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return [head, *tail], headers


@dataclass(frozen=True, slots=True)
class Answer:
    """The wanted output and the parameters of the whole answer.

    `array` is a view of the received bytes where they were binary; BYTES come as `raw`.
    """

    array: NDArray[Any] | None
    raw: bytes
    parameters: Mapping[str, Any]


def decode(reply: Reply, output: str) -> Answer:
    """The named output of a successful answer, JSON or binary.

    Raises:
        ProtocolError: the answer does not follow the protocol.
    """
    try:
        head, tail = _split(reply)
        offset = 0
        for entry in head["outputs"]:
            size = entry.get("parameters", {}).get("binary_data_size")
            if entry["name"] == output:
                data = None if size is None else tail[offset : offset + size]
                return _answer(entry, data, head.get("parameters", {}))
            offset += size or 0
        names = ", ".join(str(entry["name"]) for entry in head["outputs"])[:200]
    except (
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise ProtocolError(
            "The upscaler's answer does not follow the Open Inference Protocol."
        ) from error
    raise ProtocolError(f"The upscaler's answer has no output {output!r}; it has: {names}.")


def _split(reply: Reply) -> tuple[Any, memoryview]:
    body = memoryview(reply.body)
    length = reply.headers.get(HEADER_LENGTH.lower())
    end = len(body) if length is None else int(length)
    if not 0 < end <= len(body):
        raise ValueError("header length")
    return json.loads(bytes(body[:end])), body[end:]


def _answer(entry: Any, data: memoryview | None, parameters: Any) -> Answer:
    shape = [int(side) for side in entry["shape"]]
    if entry["datatype"] == "BYTES":
        if data is None:
            raise ValueError("an encoded file as JSON")
        (length,) = struct.unpack_from("<I", data)
        raw = bytes(data[4 : 4 + length])
        if len(raw) != length:
            raise ValueError("truncated")
        return Answer(None, raw, parameters)
    dtype = np.dtype(_DTYPES[entry["datatype"]])
    if data is not None:
        return Answer(np.frombuffer(data, dtype).reshape(shape), b"", parameters)
    return Answer(np.array(entry["data"], dtype).reshape(shape), b"", parameters)
