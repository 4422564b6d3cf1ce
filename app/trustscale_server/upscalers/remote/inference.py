"""One inference of the Open Inference Protocol: its request, and the output in its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from numpy.typing import NDArray

from trustscale_server.platform.errors import ProtocolError
from trustscale_server.upscalers.bounded_json import MAX_VALUES
from trustscale_server.upscalers.failures import OutOfBounds
from trustscale_server.upscalers.remote.replies import Reply
from trustscale_server.upscalers.tensors import (
    HEADER_LENGTH,
    Chunk,
    Malformed,
    Tensor,
    TooLong,
    decode_message,
    encode_message,
)

T = TypeVar("T")


def encode_request(
    output: str, inputs: Mapping[str, NDArray[Any] | bytes], *, binary: bool
) -> tuple[list[Chunk], dict[str, str]]:
    """Return the body of a request for one output, and its headers; see `encode_message`."""
    tensor: dict[str, Any] = {"name": output}
    if binary:
        tensor["parameters"] = {"binary_data": True}
    return encode_message({"outputs": [tensor]}, "inputs", inputs, binary=binary)


def output_of(reply: Reply, name: str, numbers: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """Return the named output of a successful answer, and the answer's parameters.

    numbers: of a picture that the JSON part may hold.

    Raises:
        ProtocolError: malformed, or without such an output.
    """
    length = reply.headers.get(HEADER_LENGTH.lower())
    max_values = MAX_VALUES + numbers
    document, outputs = understood(
        lambda: decode_message(reply.body, length, "outputs", max_values)
    )
    if name not in outputs:
        names = ", ".join(outputs)[:200]
        raise ProtocolError(f"The upscaler's answer has no output {name!r}; it has: {names}.")
    parameters = document.get("parameters")
    return outputs[name], parameters if isinstance(parameters, dict) else {}


def understood(read: Callable[[], T]) -> T:
    """Return the result of `read`; a malformed answer raises ProtocolError."""
    try:
        return read()
    except TooLong as error:
        raise OutOfBounds(f"The upscaler's answer is too long: {error}.") from error
    except Malformed as error:
        raise ProtocolError(
            f"The upscaler's answer does not follow the Open Inference Protocol: {error}."
        ) from error
