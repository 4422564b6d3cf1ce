"""What a decoder and its caller say to each other on their socket: frames, in msgspec.

A decoder may be in the hands of whoever made its file, so its caller takes nothing but these.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Any, Final, TypeAlias

from msgspec import Struct, msgpack

from trustscale_server.platform import errors
from trustscale_server.platform.errors import BadInput

LENGTH: Final = struct.Struct("<Q")
"""Stands before the content of each frame."""

NO_MEMORY: Final = 3
"""Exit status of a decoder without memory for a message."""


class Admit(Struct, frozen=True, tag=True):
    """The decoder asks for the limits of a number of pixels, and waits for one byte of answer."""

    pixels: int


class Answered(Struct, frozen=True, tag=True):
    """The result of the function begins at this byte of the shared file, behind its arrays."""

    start: int


class Refused(Struct, frozen=True, tag=True):
    """The function raised an error of the caller: the name of its class, and what it says."""

    error: str
    detail: str
    members: dict[str, Any]


class Failed(Struct, frozen=True, tag=True):
    """The function raised another error, with this traceback."""

    trace: str


class Ended(Struct, frozen=True, tag=True):
    """The decoder ended with this exit status; a signal is negative."""

    status: int


class NoProcess(Struct, frozen=True, tag=True):
    """The system gives no process."""


Message: TypeAlias = Admit | Answered | Refused | Failed | Ended | NoProcess

# Made once: msgspec may crash where two threads learn a type at the same time.
_MESSAGES: Final = msgpack.Decoder(Message)


def send_message(connection: socket.socket, message: Message) -> None:
    """Send a message in a frame."""
    send_frame(connection, msgpack.encode(message))


def message_in(frame: bytearray) -> Message:
    """Return the message of a frame. Raises ValueError: it holds none."""
    message: Message = _MESSAGES.decode(frame)
    return message


def refused(error: BadInput) -> Refused:
    """Return the message of an error."""
    return Refused(type(error).__name__, error.detail, dict(error.members))


def refusal(message: Refused) -> BadInput:
    """Return the error of a refusal.

    Raises:
        Exception: of any kind, if there is no such error.
    """
    kind = getattr(errors, message.error)
    if not issubclass(kind, BadInput):
        raise TypeError(message.error)
    error: BadInput = kind(message.detail, **message.members)
    return error


def send_frame(connection: socket.socket, content: bytes) -> None:
    """Send bytes behind their length."""
    connection.sendall(LENGTH.pack(len(content)) + content)


def receive_frame(
    connection: socket.socket, max_bytes: int | None = None, seconds: float | None = None
) -> bytearray:
    """Return the content of the next frame.

    Raises:
        ConnectionResetError: the other side has gone.
        TimeoutError: the whole of it did not come within `seconds`.
        ValueError: the content is longer than `max_bytes`.
    """
    until = None if seconds is None else time.monotonic() + seconds
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size, until))
    if max_bytes is not None and length > max_bytes:
        raise ValueError(length)
    return _exactly(connection, length, until)


def _exactly(connection: socket.socket, length: int, until: float | None) -> bytearray:
    received = bytearray(length)
    left = memoryview(received)
    while left:
        if until is not None:  # whoever sends byte by byte has no more time for it
            if (left_s := until - time.monotonic()) <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
        count = connection.recv_into(left)
        if not count:
            raise ConnectionResetError
        left = left[count:]
    return received
