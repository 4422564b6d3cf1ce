"""From a message of the Open Inference Protocol (`upscalers/tensors.py`) to a checked request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.decoding.decode import decode as decode_image
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import in_decoder
from trustscale_server.platform.errors import BadInput, ImageTooLarge
from trustscale_server.upscalers.base import RGB
from trustscale_server.upscalers.tensors import (
    Malformed,
    Tensor,
    decode_message,
    items,
    members,
    refuse_shared_memory,
)
from trustscale_worker.errors import InputError, TooLarge
from trustscale_worker.settings import WorkerSettings

_INPUTS: Mapping[str, tuple[str, ...]] = {
    "image": ("UINT8", "UINT16", "BYTES"),
    "seeds": ("INT64",),
}


@dataclass(frozen=True)
class InferRequest:
    """A checked request.

    image: [h, w, 3] of 8 or 16 bits; may be a view of the request's body.
    seeds: int64[M].
    id: the client's name for the request.
    binary: whether the answer has raw bytes.
    """

    image: RGB
    seeds: NDArray[np.int64]
    id: str | None
    binary: bool


def parse_request(
    body: memoryview, header_length: str | None, settings: WorkerSettings
) -> InferRequest:
    """Read and check a request to `infer`.

    `header_length` is the header `Inference-Header-Content-Length`. Raises InputError (malformed,
    missing, unknown, or of a wrong type or shape) and TooLarge.
    """
    try:
        return _request(*decode_message(body, header_length, "inputs"), settings)
    except Malformed as error:
        raise InputError(f"the request: {error}") from error


def _request(
    document: dict[str, Any], tensors: dict[str, Tensor], settings: WorkerSettings
) -> InferRequest:
    for tensor in tensors.values():
        if tensor.name not in _INPUTS:
            raise Malformed(f"unknown input {tensor.name!r}; this model takes {', '.join(_INPUTS)}")
        if tensor.datatype not in _INPUTS[tensor.name]:
            expected = " or ".join(_INPUTS[tensor.name])
            raise Malformed(f"{tensor.name!r}: datatype {tensor.datatype!r}; expected {expected}")
    for name in _INPUTS:
        if name not in tensors:
            raise Malformed(f"input {name!r} is missing")
    seeds = tensors["seeds"].numbers()
    if seeds.ndim != 1 or not len(seeds):
        raise Malformed(f"'seeds': expected shape [M] with M >= 1, got {list(seeds.shape)}")
    if len(seeds) > settings.max_samples:
        raise TooLarge(f"{len(seeds)} samples asked for; at most {settings.max_samples} allowed")
    parameters = members(document.get("parameters", {}), "parameters")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise Malformed("'id' must be a string")
    return InferRequest(
        image=_image(tensors["image"], settings),
        seeds=seeds,
        id=identity,
        binary=_is_binary(document, parameters),
    )


def _image(tensor: Tensor, settings: WorkerSettings) -> RGB:
    if tensor.datatype == "BYTES":
        file = tensor.file()
        try:
            limits = Limits(len(file), settings.max_pixels)
            return in_decoder(decode_image, file, limits).rgb
        except ImageTooLarge as error:
            raise TooLarge(f"'image': {error.detail}") from error
        except BadInput as error:
            raise Malformed(f"'image': {error.detail}") from error
    shape = tensor.shape
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise Malformed(f"'image': expected shape [H, W, 3], got {list(shape)}")
    if shape[0] * shape[1] > settings.max_pixels:
        raise TooLarge(
            f"image of {shape[1]}x{shape[0]} pixels; at most {settings.max_pixels} allowed"
        )
    pixels: RGB = tensor.numbers()
    return pixels


def _is_binary(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether the answer has raw bytes; checks the requested output."""
    binary = _flag(parameters.get("binary_data_output", False), "binary_data_output")
    outputs = items(document.get("outputs", []), "'outputs'")
    if len(outputs) > 1:
        raise Malformed("one output at a time")
    for entry in outputs:
        output = members(entry, "an output")
        if (name := output.get("name")) != "samples":
            raise Malformed(f"unknown output {name!r}; this model gives samples")
        chosen = members(output.get("parameters", {}), "output 'samples': 'parameters'")
        refuse_shared_memory(chosen)
        if chosen.get("classification"):
            raise Malformed("output 'samples': classification makes no sense for images")
        binary = _flag(chosen.get("binary_data", binary), "binary_data")
    return binary


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed(f"parameter {name!r} must be true or false")
    return value
