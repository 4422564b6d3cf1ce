"""How much of the event loop the bodies of requests may take.

Whoever sends a body decides in how many pieces it comes, and each piece costs the same however
small it is: a byte a chunk kept a core busy at 0.6 MB/s. So chunks of a few bytes are refused, and
what an address has cost is a debt that it pays by waiting, with whole bodies of usual size far
below what anybody would notice. While a connection waits, the kernel joins what comes, so the next
read takes more at once, and the sender is slowed down by TCP.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import h11
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl

MIN_CHUNK_BYTES: Final = 64
"""What chunks must have on average, from the 256th on. Files that are sent line by line do."""

FREE_CHUNKS: Final = 256

SHARE: Final = 0.25
"""The largest part of the event loop that reads and parses the bodies of one address."""

BURST_S: Final = 0.05
"""Seconds of the event loop that an address has before it waits: some hundred reads."""

READ_S: Final = 0.0003
"""Seconds that each read costs besides its parsing: the wake-up, and what the application does."""

_MIN_KEPT: Final = 1024  # addresses, before those without a debt are dropped


class RequestParser(h11.Connection):
    """Parses requests, and refuses bodies in small chunks.

    fault: why a body was refused; None: none was.
    """

    fault: str | None = None
    _chunks = _bytes = 0

    def next_event(self) -> Any:
        """Return the next event. Raises RemoteProtocolError, as h11 does."""
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self._chunks > FREE_CHUNKS + self._bytes // MIN_CHUNK_BYTES:
                self.fault = (
                    f"The body comes in chunks of fewer than {MIN_CHUNK_BYTES} bytes; "
                    "send larger ones."
                )
                raise h11.RemoteProtocolError(self.fault)
        elif isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        return event


class Debts:
    """What reading has cost, by address: each pays it with time at a rate of `SHARE`.

    This is the generic cell rate algorithm: for each address it keeps the time at which that will
    owe nothing.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._free_at: dict[str, float] = {}
        self._max_kept = _MIN_KEPT

    def owe(self, address: str, seconds: float) -> float:
        """Count seconds of the event loop; return for how long the address must wait."""
        now = self._clock()
        free_at = max(self._free_at.get(address, now), now) + seconds / SHARE
        self._free_at[address] = free_at
        if len(self._free_at) > self._max_kept:
            self._free_at = {debtor: at for debtor, at in self._free_at.items() if at > now}
            self._max_kept = max(_MIN_KEPT, 2 * len(self._free_at))
        return max(0.0, free_at - now - BURST_S / SHARE)


class PausableFlow(FlowControl):
    """Reading of a connection, which goes on when neither uvicorn nor a debt holds it."""

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._is_held = False

    def hold(self) -> None:
        """Stop reading until `release`."""
        self._is_held = True
        self._transport.pause_reading()

    def release(self) -> None:
        """Read on, unless uvicorn wants to wait for the application."""
        self._is_held = False
        if not self.read_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless a debt is not paid."""
        if self._is_held:
            self.read_paused = False
        else:
            super().resume_reading()


class BoundedFields:
    """Refuses forms in a URL's encoding with more than `max_fields` fields before they are parsed.

    The parser needs three microseconds for each `&`, also of those without a field in between.
    """

    def __init__(self, app: ASGIApp, max_fields: int) -> None:
        self.app = app
        self.max_fields = max_fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its body counted if it is such a form."""
        fields = 1

        async def receive_counted() -> Message:
            nonlocal fields
            message = await receive()
            fields += message.get("body", b"").count(b"&")
            if fields > self.max_fields:
                raise HTTPException(
                    HTTPStatus.BAD_REQUEST,
                    f"Too many fields. Maximum number of fields is {self.max_fields}.",
                )
            return message

        media_type = Headers(scope=scope).get("content-type", "") if scope["type"] == "http" else ""
        is_form = media_type.lower().startswith("application/x-www-form-urlencoded")
        await self.app(scope, receive_counted if is_form else receive, send)
