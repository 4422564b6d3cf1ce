"""HTTP to upscalers: every call, and what its answer says.

An answer gives its JSON by pointer, and says why a call failed, in finer classes than
`app/errors.py`. JSON pointers are of RFC 6901, where `*` stands for every element of an array.

Servers say "busy" with 409 (Cog), 429 (BentoML) or 503 (Triton, Gradio), and explain errors as
`error`, `detail` (text or list), `errors` or plain text, whatever the content type.

No other module calls upscalers. `Upstream` guarantees what all protocols need: a timeout on every
step, byte limits while reading, no redirects, no compression (what is not decompressed cannot be a
bomb), the token only to the configured origin, and results only from where
`app/outbound/guard.py` allows.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final

import httpx
from jsonpointer import EndOfList, JsonPointer, JsonPointerException
from pydantic import AfterValidator, Field

from trustscale_server.errors import (
    ConfigError,
    ProtocolError,
    UpscalerError,
    UpscalerFailed,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.outbound.guard import (
    FetchPolicy,
    Network,
    Origin,
    certificate_authorities,
    own_url,
    target,
)
from trustscale_server.upscalers.base import MemoryPermit
from trustscale_server.upscalers.config import RemoteConfig

# --- An answer: its JSON by pointer, and why a call failed.

_LONGEST_WAIT_S = 3600.0
_TEXT_LIMIT = 300
_DEEPEST = 6  # levels of nesting around an explanation
_EVERY: Final = re.compile(r"/\*(?=/|$)")
_NOTHING: Final = object()
# A data URI, a link, or the first letters of PNG, JPEG, WebP, AVIF and GIF in base64.
_IMAGE: Final = re.compile(r"data:image/|https?://|iVBORw0KGgo|/9j/|UklGR|AAAA.{5}0eXBhdm|R0lGOD")
_MOST_NAMED: Final = 12
_MOST_LETTERS: Final = 100
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "payment_required"})


class _Waiting(UpscalerUnavailable):
    """`wait_s`: seconds that the server asked us to wait; None: it did not say."""

    def __init__(self, detail: str, *, wait_s: float | None = None, **members: Any) -> None:
        super().__init__(detail, retry_after=5.0 if wait_s is None else wait_s, **members)
        self.wait_s = wait_s


class Busy(_Waiting):
    """The server has no free slot (409, 503, 429 by product)."""


class TooManyCalls(_Waiting):
    """The account's rate limit is reached."""


class AnswerLost(UpscalerUnavailable):
    """The request was sent and not answered; its work may be paid for."""


class QuotaSpent(UpscalerUnavailable):
    """The provider has no credit left, or the configured spend limit is reached."""


class BadCredentials(UpscalerUnavailable):
    """The server answered 401 or 403: the operator must correct the token."""


class Misconfigured(UpscalerUnavailable):
    """The server answered 404: the operator must correct the address or the model."""


class BreakerOpen(UpscalerUnavailable):
    """Too many calls failed in a row, so this call was not made."""


class GenerationFailed(UpscalerFailed):
    """The model reported a failure, often inside HTTP 200."""


class Filtered(UpscalerFailed):
    """A content filter withheld the sample."""


class NoImage(ProtocolError):
    """The answer has no image where the settings say it is.

    said: the server's explanation. setting: where another place can be set.
    """

    def __init__(
        self, who: str, where: str, document: Any, said: str = "", *, setting: str = ""
    ) -> None:
        because = f": {said}" if said else ""
        holds = "is no JSON" if document is None else f"holds {outline(document)}"
        advice = f": set {setting}" if setting else ""
        super().__init__(
            f"{who!r} sent no image at {where!r}{because}; its answer {holds}{advice}."
        )
        self.document = document


class WrongSample(ProtocolError):
    """The answer is an image, but not a sample of this input."""


class WrongSize(WrongSample):
    """The sample is not k times as large as the input; `size` is its (width, height)."""

    def __init__(self, detail: str, size: tuple[int, int]) -> None:
        super().__init__(detail)
        self.size = size


_FINAL = (UpscalerRejected, Filtered, WrongSample)
_FOR_THE_OPERATOR = (BadCredentials, Misconfigured, QuotaSpent)

_REASONS: tuple[tuple[type[UpscalerError], str], ...] = (
    (Busy, "busy"),
    (TooManyCalls, "rate-limited"),
    (QuotaSpent, "quota"),
    (BadCredentials, "credentials"),
    (Misconfigured, "configuration"),
    (BreakerOpen, "breaker-open"),
    (UpscalerUnavailable, "unavailable"),
    (Filtered, "filtered"),
    (UpscalerRejected, "rejected"),
    (WrongSample, "wrong-sample"),
    (ProtocolError, "protocol"),
    (UpscalerFailed, "failed"),
)


def retriable(error: BaseException) -> bool:
    """Return whether the same call with the same seed may succeed a moment later."""
    return isinstance(error, UpscalerUnavailable | UpscalerFailed) and not isinstance(
        error, (*_FINAL, *_FOR_THE_OPERATOR, BreakerOpen)
    )


def needs_operator(error: BaseException) -> bool:
    """Return whether waiting is useless: the operator must correct a setting, or pay."""
    return isinstance(error, _FOR_THE_OPERATOR)


def replaceable(error: BaseException) -> bool:
    """Return whether another seed may succeed where this one finally failed."""
    return isinstance(error, UpscalerFailed) and not isinstance(
        error, UpscalerRejected | WrongSample
    )


def asked_wait(error: BaseException) -> float | None:
    """Return the seconds that the server asked us to wait, or None if it did not say."""
    return error.wait_s if isinstance(error, _Waiting) else None


def metrics_label(error: BaseException) -> str:
    """Return the label of the error in metrics."""
    return next((label for kind, label in _REASONS if isinstance(error, kind)), "other")


@dataclass(frozen=True)
class Reply:
    """A whole HTTP answer, with header names in lower case.

    `redact` takes the token out of the server's text.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray
    redact: Callable[[str], str] = str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @cached_property
    def document(self) -> Any:
        """The body as JSON; None if it is no object or array."""
        if bytes(self.body[:1]) not in {b"{", b"["}:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def json(self) -> Any:
        """Return the body as JSON, or raise ProtocolError."""
        if self.document is None:
            kind = self.headers.get("content-type", "no content type")
            raise ProtocolError(
                f"The upscaler answered {self.status} with something that is no JSON ({kind})."
            )
        return self.document


def raise_for_status(reply: Reply, who: str) -> None:
    """Raise what a status other than 2xx means; see `failure`."""
    if not reply.ok:
        raise failure(reply, who)


def failure(  # noqa: PLR0911 - one return for each meaning
    reply: Reply, who: str, *, error_text: Sequence[str] = (), wait_429: float | None = None
) -> UpscalerError:
    """Return the error that an unsuccessful answer means.

    `error_text` has JSON pointers to the explanation, tried before the usual places; `wait_429` the
    seconds to wait after 429 when the server does not say.
    """
    status = reply.status
    said = explanation(reply, error_text)
    because = f": {said}" if said else "."
    pause = retry_after(reply.headers)
    if status == 402 or (status == 429 and _is_quota(reply)):
        return QuotaSpent(f"{who!r} has no credit left{because}", retry_after=pause or 600.0)
    if status == 429:
        wait = pause if pause is not None else wait_429
        return TooManyCalls(f"{who!r} may not be called so often{because}", wait_s=wait)
    if status in {409, 503}:
        return Busy(f"{who!r} is busy ({status}){because}", wait_s=pause)
    if status in {401, 403}:
        return BadCredentials(
            f"{who!r} refuses the API token ({status}){because} Check the variable that its "
            "token_env names."
        )
    if status in {404, 405, 410} or 300 <= status < 400:
        return Misconfigured(
            f"{who!r} knows no such address or model ({status}){because} Check its url and model."
        )
    if status == 413:
        return UpscalerRejected(f"The image is too large for {who!r}{because}")
    if status in {408, 425, 502, 504}:
        return AnswerLost(f"{who!r} did not answer in time ({status}){because}")
    if status >= 500:
        return GenerationFailed(f"{who!r} failed ({status}){because}")
    if status >= 400:
        return UpscalerRejected(f"{who!r} refuses this input ({status}){because}")
    return ProtocolError(f"{who!r} answered with status {status}.")


def explanation(reply: Reply, error_text: Sequence[str] = ()) -> str:
    """Return the server's explanation, one line of at most 300 characters; may be empty."""
    if reply.document is None:
        text = bytes(reply.body[:1024]).decode("utf-8", "replace").lstrip()
        said = "" if text.startswith("<") or "\0" in text else text
    else:
        configured = (_text_of(first(reply.document, place)) for place in error_text)
        said = next(filter(None, configured), "") or _text_of(reply.document)
    # Redacted before it is cut, which may cut a token.
    return _one_line(reply.redact(said))


def seconds_of(value: Any) -> float | None:
    """Return a duration from an answer, 0 to an hour, or None if it has none."""
    seconds = _number(value)
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_WAIT_S)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, at most an hour, or None."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return seconds_of(milliseconds / 1000)
    value = headers.get("retry-after")
    if value is not None:
        seconds = _number(value)
        if seconds is None:
            with suppress(ValueError, OverflowError):
                when = email.utils.parsedate_to_datetime(value)
                when = when if when.tzinfo else when.replace(tzinfo=UTC)
                seconds = (when - datetime.now(UTC)).total_seconds()
        if seconds is not None:
            return seconds_of(seconds)
    # With calls remaining, the reset does not matter.
    if _number(headers.get("ratelimit-remaining")):
        return None
    return seconds_of(headers.get("ratelimit-reset"))


def _is_quota(reply: Reply) -> bool:
    codes = {str(first(reply.document, place)) for place in ("/error/code", "/error/type", "/code")}
    return bool(codes & _QUOTA_CODES)


def _text_of(value: Any, depth: int = _DEEPEST) -> str:
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "; ".join(filter(None, (_text_of(item, depth - 1) for item in value[:5])))
    if depth and isinstance(value, dict):
        if "msg" in value:
            loc, said = value.get("loc"), str(value["msg"])
            place = ".".join(str(step) for step in loc[:9]) if isinstance(loc, list) else ""
            return f"{place}: {said}" if place else said
        for key in ("error", "detail", "message", "errors", "title"):
            if text := _text_of(value.get(key), depth - 1):
                return text
    return ""


def _one_line(text: str) -> str:
    # A lone surrogate of JSON cannot be encoded.
    line = re.sub(r"[\s\x00-\x1f\x7f\ud800-\udfff]+", " ", text[: 8 * _TEXT_LIMIT]).strip()
    return line if len(line) <= _TEXT_LIMIT else line[: _TEXT_LIMIT - 1] + "…"


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def find_all(document: Any, pointer: str) -> list[Any]:
    """Return every value that the pointer names; without `*` at most one."""
    where, *rest = _EVERY.split(pointer, maxsplit=1)
    resolved = JsonPointer(where).resolve(document, _NOTHING)
    if resolved is _NOTHING or isinstance(resolved, EndOfList):
        return []
    if not rest:
        return [resolved]
    return (
        [leaf for value in resolved for leaf in find_all(value, rest[0])]
        if type(resolved) is list
        else []
    )


def first(document: Any, pointer: str) -> Any:
    """Return the first value that the pointer names, or None."""
    return next(iter(find_all(document, pointer)), None)


def valid_pointer(pointer: str) -> str:
    """Return the pointer, or raise ValueError if it is none."""
    try:
        JsonPointer(pointer)
    except JsonPointerException as error:
        raise ValueError(f"no JSON pointer (RFC 6901): {error}") from error
    return pointer


Pointer = Annotated[
    str, AfterValidator(valid_pointer), Field(description="JSON pointer, RFC 6901.")
]


def images(document: Any) -> list[str]:
    """Return pointers to what looks like an image; links last."""
    leaves = [leaf for leaf in _leaves(document) if _is_image(leaf[1])]
    return [place for place, _ in sorted(leaves, key=lambda leaf: leaf[1].startswith("http"))]


def outline(document: Any) -> str:
    """Return a dozen pointers of a document, without values.

    Such as "/id, /output/0 (looks like an image)".
    """
    leaves = sorted(_leaves(document), key=lambda leaf: not _is_image(leaf[1]))
    named = [
        pointer[:_MOST_LETTERS] + (" (looks like an image)" if _is_image(value) else "")
        for pointer, value in leaves[:_MOST_NAMED]
    ]
    more = ["…"] if len(leaves) > _MOST_NAMED else []
    return ", ".join([*named, *more]) or "nothing"


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and _IMAGE.match(value) is not None


def _leaves(document: Any) -> Iterator[tuple[str, Any]]:
    """Pointers and values of everything but objects and arrays, at most 10,000."""
    waiting, left = [("", document)], 10_000
    while waiting and left:
        pointer, value = waiting.pop()
        if isinstance(value, dict):
            steps = [(JsonPointer.from_parts([name]).path, item) for name, item in value.items()]
        elif isinstance(value, list):
            steps = [(f"/{place}", item) for place, item in enumerate(value)]
        else:
            yield pointer, value
            left -= 1
            continue
        waiting += [(pointer + step, item) for step, item in reversed(steps)]


# --- HTTP to upscalers; no other module calls them.

SMALL_ANSWER = 8 * 2**20  # metadata, status and error answers

# Bytes that are read before the turn; the rest of the M answers waits at the server.
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
        network: Network | None = None,
    ) -> None:
        self.name = config.name
        self.base = base
        self.network = network or Network()
        self._no_token = missing_token(config, environ)
        token, sent = _token(config, environ)
        self._secrets = {token, sent} - {""}
        self._max_bytes = config.MAX_ANSWER_BYTES
        self._limit_s = config.call_timeout_s
        self._policy = FetchPolicy(Origin.of(base), config.allowed_hosts, config.allow_private)
        # Spare connections: polling and cancelling never queue.
        most = config.concurrency + 4
        idle = most if config.KEEPS_CONNECTIONS else 0
        options: dict[str, Any] = {
            "timeout": httpx.Timeout(
                connect=self.network.connect_s,
                read=config.call_timeout_s,
                write=self.network.write_s,
                pool=self.network.pool_s,
            ),
            "limits": httpx.Limits(max_connections=most, max_keepalive_connections=idle),
            "follow_redirects": False,
            "transport": self.network.transport,
            "verify": certificate_authorities(),
        }
        common = {"Accept-Encoding": "identity", "User-Agent": "trustscale"}
        own = {**common, **config.headers}
        if sent:
            own[config.token_header] = f"{config.token_scheme} {sent}".strip()
        self._client = httpx.AsyncClient(headers=own, **options)
        # For other hosts: no token, cookies or headers. Their addresses are fixed, and a connection
        # that is kept to an address would serve any host that has it, whoever showed a certificate.
        alone = {"limits": httpx.Limits(max_connections=most, max_keepalive_connections=0)}
        self._anonymous_client = httpx.AsyncClient(headers=common, **(options | alone))

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Sequence[bytes | memoryview] | None = None,
        turn: MemoryPermit | None = None,
        **options: Any,
    ) -> Reply:
        """Send one request, whatever the answer's status; `options` are those of httpx.

        `content` in parts needs a Content-Length among the headers. With `turn` the answer holds
        samples: `turn` limits its size, and beyond a first part it is read in that turn only. Other
        answers have 8 MiB at most, and the time of one call.
        """
        body = content if content is None or isinstance(content, bytes) else _chunks(content)
        request = self._client.build_request(method, self.url(path), content=body, **options)
        return await self._exchange(self._client, request, turn)

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        """Send one request; raise `failure` for a status other than 2xx."""
        reply = await self.request(method, path, **options)
        raise_for_status(reply, self.name)
        return reply

    async def fetch(self, url: str, turn: MemoryPermit) -> bytes | bytearray:
        """Return the bytes behind a result URL; ProtocolError if it is not allowed."""
        place = await target(url, self._policy, self.network.resolve)
        if place.is_own:
            reply = await self.request("GET", place.url, turn=turn)
        else:
            headers = {"Host": place.origin.authority}
            name = {"sni_hostname": place.origin.host}
            request = self._anonymous_client.build_request(
                "GET", place.url, headers=headers, extensions=name
            )
            reply = await self._exchange(self._anonymous_client, request, turn)
        if 300 <= reply.status < 400:
            raise ProtocolError(f"The result of {self.name!r} redirects; redirects are refused.")
        if reply.status in {401, 403, 404, 410}:
            raise ProtocolError(f"The result of {self.name!r} is gone ({reply.status}).")
        raise_for_status(reply, self.name)
        return reply.body

    async def events(self, path: str, turn: MemoryPermit) -> AsyncIterator[tuple[str, str]]:
        """Yield server-sent events as (event, data)."""
        request = self._client.build_request("GET", self.url(path))
        async with self._send(self._client, request) as response:
            if not response.is_success:
                body = await self._read(response, None)
                raise_for_status(self._reply(response, body), self.name)
            event, data = b"message", bytearray()
            async for line in self._lines(response, turn):
                if line.startswith(b"event:"):
                    event = line[6:].strip()
                elif line.startswith(b"data:"):
                    data += line[5:].removeprefix(b" ") + b"\n"
                elif not line and data:
                    yield event.decode("utf-8", "replace"), data[:-1].decode("utf-8", "replace")
                    event, data = b"message", bytearray()

    async def _lines(self, response: httpx.Response, turn: MemoryPermit) -> AsyncIterator[bytes]:
        begun = bytearray()
        async for chunk in self._received(response, self._most(turn)):
            begun += chunk
            if b"\n" in chunk:
                *lines, begun = begun.split(b"\n")
                for line in lines:
                    yield bytes(line.removesuffix(b"\r"))

    def url(self, path: str) -> str:
        """Return the absolute URL of a path, or a URL of an answer if it has this origin."""
        if path.startswith(("http://", "https://", "//")):
            return own_url(path, self.base)
        # After a base without a path, `.evil.example` or `@10.0.0.1` names another host.
        strange = ProtocolError(f"{self.name!r} gave something for its next step that is no path.")
        try:
            whole, own = httpx.URL(self.base + path), httpx.URL(self.base)
        except (httpx.InvalidURL, ValueError) as error:
            raise strange from error
        ends_the_host = not path or path.startswith(("/", "?"))
        moved = (whole.scheme, whole.userinfo, whole.netloc) != (own.scheme, b"", own.netloc)
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
        error.args = (error.detail,)

    async def close(self) -> None:
        await self._client.aclose()
        await self._anonymous_client.aclose()

    async def _exchange(
        self, client: httpx.AsyncClient, request: httpx.Request, turn: MemoryPermit | None
    ) -> Reply:
        try:
            # A turn has a limit.
            async with asyncio.timeout(self._limit_s if turn is None else None):
                async with self._send(client, request) as response:
                    return self._reply(response, await self._read(response, turn))
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

    async def _read(self, response: httpx.Response, turn: MemoryPermit | None) -> bytearray:
        body = bytearray()
        async for chunk in self._received(response, self._most(turn)):
            body += chunk
            if turn is not None and len(body) > _READ_AHEAD:
                await turn.take()
        return body

    def _most(self, turn: MemoryPermit | None) -> int:
        most = SMALL_ANSWER if turn is None else turn.most_bytes
        return self._max_bytes if most is None else min(self._max_bytes, most)

    async def _received(self, response: httpx.Response, cap: int) -> AsyncIterator[bytes]:
        """The body in chunks, at most `cap` bytes, not compressed."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProtocolError(f"{self.name!r} compressed its answer although asked not to.")
        too_much = ProtocolError(f"{self.name!r} sent more than {cap:,} bytes.")
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
