"""What is to be connected, checked: strangers choose its address, settings and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
from pydantic import SecretStr, TypeAdapter, ValidationError

from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import BadRequest, ProtocolError
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.entries import Entry
from trustscale_server.upscalers.outbound.guard import FetchPolicy, NetworkAccess, target
from trustscale_server.upscalers.registry import UpscalerConfig

REPORT_SCALE: Final = ("embedded", "worker")
"""Kinds of upscalers that say their scale themselves."""

_UNKNOWN_SCALE: Final = 16  # hardly any model's, so an answer shows the right one
_CONFIG: Final[TypeAdapter[UpscalerConfig]] = TypeAdapter(UpscalerConfig)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """Which upscaler to connect: its address, and settings that override what is found.

    address: a URL, or an ONNX file.
    settings: of the entry; they override what is found.
    allow_private: whether the address may be private, or without TLS.
    """

    address: str
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    settings: Entry = field(default_factory=dict)
    allow_private: bool = False
    network: NetworkAccess = field(default_factory=NetworkAccess)

    @property
    def environ(self) -> dict[str, str]:
        return {self.settings.get("token_env", ""): self.token.get_secret_value()}


def upscaler_config_of(entry: Entry) -> UpscalerConfig:
    """Check the entry as settings; a missing scale is guessed. Raises BadRequest."""
    is_known = entry["kind"] in REPORT_SCALE or "preset" in entry
    guess = {} if is_known else {"scale": _UNKNOWN_SCALE}
    with as_bad_request():
        return _CONFIG.validate_python({**guess, **entry})


@contextmanager
def as_bad_request() -> Iterator[None]:
    """Turn invalid settings into BadRequest."""
    try:
        yield
    except ValidationError as error:
        raise BadRequest(f"Wrong settings: {mistakes(error, OneAddress)}") from None


@asynccontextmanager
async def guarded(request: ConnectRequest) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open a transport that reaches only addresses that the request may name."""
    async with request.network.transport or httpx.AsyncHTTPTransport() as transport:
        yield _Guarded(transport, request)


class _Guarded(httpx.AsyncBaseTransport):
    """Connects to the checked address, whatever name was used."""

    def __init__(self, transport: httpx.AsyncBaseTransport, connection: ConnectRequest) -> None:
        self._transport = transport
        self._connection = connection

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. Raises BadRequest for an address that is not allowed."""
        allow_private, resolve = self._connection.allow_private, self._connection.network.resolve
        policy = FetchPolicy(None, (request.url.host,), allow_private, "upscaler")
        try:
            place = await target(str(request.url), policy, resolve)
        except ProtocolError as error:
            advice = (
                ""
                if allow_private
                else " If it is your own server: name connect in allow_private_networks, or run "
                "`trustscale connect ADDRESS` where the service runs."
            )
            raise BadRequest(f"{error.detail}{advice}") from error
        pinned = httpx.Request(
            request.method,
            place.url,
            headers=request.headers,
            stream=request.stream,
            extensions={"sni_hostname": place.origin.host, **request.extensions},
        )
        return await self._transport.handle_async_request(pinned)
