"""HTTP to upscalers: every call.

No other module calls upscalers. `Upstream` guarantees what all protocols need: a timeout on every
step, byte limits while reading, no redirects, no compression (what is not decompressed cannot be a
bomb), the token only to the configured origin, and results only from where
`upscalers/outbound/guard.py` allows.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from trustscale_server.platform.errors import (
    ConfigError,
    ProtocolError,
    UpscalerError,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.failures import AnswerLost, BadCredentials, OutOfBounds
from trustscale_server.upscalers.outbound.guard import (
    FetchPolicy,
    NetworkAccess,
    Origin,
    certificate_authorities,
    own_url,
    target,
)
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.remote.replies import Reply, raise_for_status

SMALL_ANSWER = 8 * 2**20  # metadata, status and error answers

# Bytes that are read before the permit is held; the rest of the M answers waits at the server.
_READ_AHEAD = 4 * 2**20


class Upstream:
    """HTTP to one configured address.

    Paths are relative to the address; absolute URLs must be on its origin. Methods raise
    `UpscalerUnavailable` without an answer, `ProtocolError` if it is too large or compressed.
    """

    def __init__(
        self,
        config: RemoteConfig,
        base: str,
        environ: Mapping[str, str],
        network: NetworkAccess | None = None,
    ) -> None:
        self.name = config.name
        self.base = base
        self.network = network or NetworkAccess()
        self._no_token = missing_token(config, environ)
        token, sent = _token(config, environ)
        self._secrets = {token, sent} - {""}
        self._max_bytes = config.MAX_ANSWER_BYTES
        self._call_timeout_s = config.call_timeout_s
        self._policy = FetchPolicy(
            Origin.from_url(base), config.allowed_hosts, config.allow_private
        )
        # Spare connections: polling and cancelling never queue.
        max_connections = config.concurrency + 4
        idle = max_connections if config.KEEPS_CONNECTIONS else 0
        options: dict[str, Any] = {
            "timeout": httpx.Timeout(
                connect=self.network.connect_s,
                read=config.call_timeout_s,
                write=self.network.write_s,
                pool=self.network.pool_s,
            ),
            "limits": httpx.Limits(max_connections=max_connections, max_keepalive_connections=idle),
            "follow_redirects": False,
            "transport": self.network.transport,
            "verify": certificate_authorities(),
        }
        common = {"Accept-Encoding": "identity", "User-Agent": "trustscale"}
        own = {**common, **config.headers}
        if sent:
            own[config.token_header] = f"{config.token_scheme} {sent}".strip()
        self._client = httpx.AsyncClient(headers=own, **options)
        # For other hosts: no token, cookies or headers. A connection that is kept to an address
        # would serve every host that has it, although the certificate of one was checked.
        unshared = {
            "limits": httpx.Limits(max_connections=max_connections, max_keepalive_connections=0)
        }
        self._anonymous_client = httpx.AsyncClient(headers=common, **(options | unshared))

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Sequence[bytes | memoryview] | None = None,
        permit: MemoryPermit | None = None,
        **options: Any,
    ) -> Reply:
        """Send one request, whatever the answer's status; `options` are those of httpx.

        `content` in parts needs a Content-Length among the headers. With `permit` the answer holds
        samples: `permit` limits its size, and beyond a first part it is read with it only. Other
        answers have 8 MiB at most, and the time of one call.
        """
        body = content if content is None or isinstance(content, bytes) else _chunks(content)
        request = self._client.build_request(method, self.url(path), content=body, **options)
        return await self._exchange(self._client, request, permit)

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        """Send one request; raise `failure` for a status other than 2xx."""
        reply = await self.request(method, path, **options)
        raise_for_status(reply, self.name)
        return reply

    async def fetch(self, url: str, permit: MemoryPermit) -> bytes | bytearray:
        """Return the bytes behind a result URL; ProtocolError if it is not allowed."""
        place = await target(url, self._policy, self.network.resolve)
        if place.is_own:
            reply = await self.request("GET", place.url, permit=permit)
        else:
            request = self._anonymous_client.build_request(
                "GET",
                place.url,
                headers={"Host": place.origin.authority},
                extensions={"sni_hostname": place.origin.host},
            )
            reply = await self._exchange(self._anonymous_client, request, permit)
        if 300 <= reply.status < 400:
            raise ProtocolError(f"The result of {self.name!r} redirects; redirects are refused.")
        if reply.status in {401, 403, 404, 410}:
            raise ProtocolError(f"The result of {self.name!r} is gone ({reply.status}).")
        raise_for_status(reply, self.name)
        return reply.body

    async def events(self, path: str, permit: MemoryPermit) -> AsyncIterator[tuple[str, str]]:
        """Yield server-sent events as (event, data)."""
        request = self._client.build_request("GET", self.url(path))
        async with self._send(self._client, request) as response:
            if not response.is_success:
                body = await self._read(response, None)
                raise_for_status(self._reply(response, body), self.name)
            event, data = b"message", bytearray()
            async for line in self._lines(response, permit):
                if line.startswith(b"event:"):
                    event = line[6:].strip()
                elif line.startswith(b"data:"):
                    data += line[5:].removeprefix(b" ") + b"\n"
                elif not line and data:
                    yield event.decode("utf-8", "replace"), data[:-1].decode("utf-8", "replace")
                    event, data = b"message", bytearray()

    async def _lines(self, response: httpx.Response, permit: MemoryPermit) -> AsyncIterator[bytes]:
        unfinished = bytearray()
        async for chunk in self._received(response, self._max_answer_bytes(permit)):
            unfinished += chunk
            if b"\n" in chunk:
                *lines, unfinished = unfinished.split(b"\n")
                for line in lines:
                    yield bytes(line.removesuffix(b"\r"))

    def url(self, path: str) -> str:
        """Return the absolute URL of a path, or a URL of an answer if it has this origin."""
        if path.startswith(("http://", "https://", "//")):
            return own_url(path, self.base)
        # After a base without a path, `.evil.example` or `@10.0.0.1` names another host.
        strange = ProtocolError(f"{self.name!r} gave something for its next step that is no path.")
        try:
            joined, own = httpx.URL(self.base + path), httpx.URL(self.base)
        except (httpx.InvalidURL, ValueError) as error:
            raise strange from error
        ends_the_host = not path or path.startswith(("/", "?"))
        moved = (joined.scheme, joined.userinfo, joined.netloc) != (own.scheme, b"", own.netloc)
        if moved or (own.path == "/" and not ends_the_host):
            raise strange
        return self.base + path

    def redact(self, text: str) -> str:
        """Return the text without the token, which an answer may repeat."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def redact_error(self, error: UpscalerError) -> None:
        error.detail = self.redact(error.detail)

    async def close(self) -> None:
        await self._client.aclose()
        await self._anonymous_client.aclose()

    async def _exchange(
        self, client: httpx.AsyncClient, request: httpx.Request, permit: MemoryPermit | None
    ) -> Reply:
        try:
            # A permit has a limit.
            async with asyncio.timeout(self._call_timeout_s if permit is None else None):
                async with self._send(client, request) as response:
                    return self._reply(response, await self._read(response, permit))
        except TimeoutError as error:
            raise AnswerLost(f"{self.name!r} did not answer in time.") from error

    def _reply(self, response: httpx.Response, body: bytearray) -> Reply:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, headers, body, self.redact)

    @asynccontextmanager
    async def _send(
        self, client: httpx.AsyncClient, request: httpx.Request
    ) -> AsyncIterator[httpx.Response]:
        if self._no_token:
            raise BadCredentials(self._no_token)
        try:
            response = await client.send(request, stream=True)
            try:
                yield response
            finally:
                await response.aclose()
        except httpx.ConnectTimeout as error:
            raise UpscalerUnavailable(f"{self.name!r} cannot be reached: no connection.") from error
        except httpx.PoolTimeout as error:
            raise UpscalerUnavailable(f"{self.name!r} has no free connection.") from error
        except httpx.TimeoutException as error:
            raise AnswerLost(f"{self.name!r} did not answer in time.") from error
        except httpx.ConnectError as error:
            raise UpscalerUnavailable(f"{self.name!r} cannot be reached: {error}.") from error
        except httpx.TransportError as error:
            raise AnswerLost(f"The connection to {self.name!r} broke.") from error
        except (httpx.InvalidURL, httpx.StreamError) as error:
            raise ProtocolError(f"{self.name!r} cannot be called: {error}.") from error

    async def _read(self, response: httpx.Response, permit: MemoryPermit | None) -> bytearray:
        body = bytearray()
        async for chunk in self._received(response, self._max_answer_bytes(permit)):
            body += chunk
            if permit is not None and len(body) > _READ_AHEAD:
                await permit.take()
        return body

    def _max_answer_bytes(self, permit: MemoryPermit | None) -> int:
        limit = SMALL_ANSWER if permit is None else permit.max_answer_bytes
        return self._max_bytes if limit is None else min(self._max_bytes, limit)

    async def _received(self, response: httpx.Response, cap: int) -> AsyncIterator[bytes]:
        """The body in chunks, at most `cap` bytes, not compressed."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise OutOfBounds(f"{self.name!r} compressed its answer although asked not to.")
        too_much = OutOfBounds(f"{self.name!r} sent more than {cap:,} bytes.")
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > cap:
            raise too_much
        received = 0
        async for chunk in response.aiter_bytes():
            received += len(chunk)
            if received > cap:
                raise too_much
            yield chunk


def missing_token(config: RemoteConfig, environ: Mapping[str, str]) -> str | None:
    """Explain that this upscaler cannot be called because its token is missing."""
    if config.token_env is None or environ.get(config.token_env, "").strip():
        return None
    return (
        f"Upscaler {config.name!r} cannot be used: the environment variable {config.token_env} is "
        "not set; it must hold the API token."
    )


def _token(config: RemoteConfig, environ: Mapping[str, str]) -> tuple[str, str]:
    """The token, or "", plain and as it is sent."""
    token = environ.get(config.token_env, "").strip() if config.token_env else ""
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(
            f"Upscaler {config.name!r}: {config.token_env} has characters that no token has."
        )
    if config.token_scheme.lower() == "basic" and ":" in token:
        return token, base64.b64encode(token.encode()).decode()
    return token, token


async def _chunks(chunks: Sequence[Any]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
