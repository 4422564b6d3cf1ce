"""HTTP to addresses that clients choose: receivers of webhooks, pictures to fetch."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx

from trustscale_server.errors import UpscalerUnavailable
from trustscale_server.outbound.guard import FetchPolicy, Resolver, system_resolver, target


@dataclass(frozen=True, slots=True)
class Network:
    """What tests replace: the transport under httpx, the resolver, and the timeout of each step.

    `cancel_timeout_s` is for cancelling abandoned work at the server.
    """

    transport: httpx.AsyncBaseTransport | None = None
    resolve: Resolver = field(default=system_resolver)
    connect_s: float = 3.0
    pool_s: float = 5.0
    write_s: float = 30.0
    cancel_timeout_s: float = 5.0


@cache
def certificate_authorities() -> ssl.SSLContext:
    """Return the certificate authorities.

    They are read once, which takes 20 ms in which nothing else runs.
    """
    return httpx.create_ssl_context()


@asynccontextmanager
async def foreign_answer(
    method: str, url: str, policy: FetchPolicy, network: Network, *, limit_s: float, **options: Any
) -> AsyncIterator[httpx.Response]:
    """Open the answer of an address that an untrusted client chose; its body is unread.

    No connection is kept: they are to addresses, and a certificate was checked for one host only.

    Args:
        method: of HTTP.
        url: to check and to call.
        policy: what is allowed.
        network: of tests.
        limit_s: of the body of the `async with`, too.
        options: those of httpx.

    Raises:
        ProtocolError: it is not allowed.
        UpscalerUnavailable: it did not answer.
    """
    headers = {"User-Agent": "trustscale", "Accept-Encoding": "identity"} | options.pop(
        "headers", {}
    )
    try:
        async with asyncio.timeout(limit_s):
            place = await target(url, policy, network.resolve)
            async with (
                httpx.AsyncClient(
                    timeout=limit_s, transport=network.transport, verify=certificate_authorities()
                ) as client,
                client.stream(
                    method,
                    place.url,
                    headers={"Host": place.origin.authority, **headers},
                    extensions={"sni_hostname": place.origin.host},
                    **options,
                ) as response,
            ):
                yield response
    except TimeoutError as error:
        raise UpscalerUnavailable(f"The {policy.what} did not answer in time.") from error
    except httpx.HTTPError as error:
        kind = type(error).__name__
        raise UpscalerUnavailable(f"The {policy.what} cannot be reached ({kind}).") from error
