"""What stands before every route: middleware, keys, clients and their limits, form fields, files.

A client is a key, or an address (IPv6: a /64 network) when the API is open. Limits count requests
and input pixels per minute, which begins with a client's first request; refused requests do not
count. Gateways share the counters with `redis://` only.

An `Idempotency-Key` belongs to one caller and one body: a repeated request gets the answer of the
first one. During the first request its gateway renews a claim on the key in the shared store, and
repetitions poll it. If that gateway dies, the claim expires, and the next request counts as the
first. A failure frees the key.

The middleware adds request id, log, trace, metrics by route template and security headers; the
dependencies of path operations give the application's state, a valid key and known form fields.
Keys are compared in constant time as SHA-256; logs and errors never show one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import ipaddress
import json
import math
import re
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    aclosing,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, fields
from pathlib import Path
from typing import (
    IO,
    TYPE_CHECKING,
    Annotated,
    Any,
    BinaryIO,
    Final,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    get_args,
)
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Depends, Header, Request, Response, UploadFile, params
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from opentelemetry.trace import INVALID_SPAN, Span
from pydantic import BaseModel
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trustscale_server.api.openapi import PAGE_POLICY
from trustscale_server.api.problems import (
    SCOPE_KEY,
    ClientDisconnected,
    problem_response,
    problem_responses,
)
from trustscale_server.assembly import Services
from trustscale_server.concurrency import Room, beside, current_client
from trustscale_server.config_errors import did_you_mean, together
from trustscale_server.config_sources import named_key
from trustscale_server.errors import (
    BadRequest,
    ConfigError,
    Forbidden,
    ImageTooLarge,
    NotFound,
    RateLimited,
    Unauthorized,
    UpscalerUnavailable,
    shortened,
)
from trustscale_server.monitoring.report import MAX_TRUTH_BYTES
from trustscale_server.problems import body_too_large, problem
from trustscale_server.stores.base import ClaimStore, StoreUnavailable
from trustscale_server.stores.blobs import PRIVATE, byte_size, create_file
from trustscale_server.stores.documents import ANSWER_TIMEOUT_S, redis_errors
from trustscale_server.telemetry.signals import Metrics, fail, span
from trustscale_server.upscalers.base import Upscaler

if TYPE_CHECKING:
    from limits import RateLimitItemPerMinute
    from limits.aio.strategies import FixedWindowRateLimiter

log = structlog.get_logger(__name__)
access_log = structlog.get_logger("access")

Value = TypeVar("Value")

# --- Clients of the API: their names, limits and repeated requests, and whether they are connected.

Unit = Literal["requests", "pixels"]


def client_name(request: Request, key: str | None) -> str:
    """Return the client of a request: a digest of its key's id or of its address.

    Jobs are stored with it, so it tells neither. Of an IPv6 address only the network counts, since
    whoever has one has all 2^64 addresses of it.
    """
    name = f"key:{key}" if key else f"address:{_network(request)}"
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _network(request: Request) -> str:
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class ClientLimits:
    """Counts the requests and pixels of each client; units without an item are not limited."""

    def __init__(
        self,
        limiter: FixedWindowRateLimiter | None = None,
        items: dict[Unit, RateLimitItemPerMinute] | None = None,
    ) -> None:
        self._limiter = limiter
        self._items = items or {}

    async def take(self, client: str, unit: Unit, amount: int = 1) -> None:
        """Count an amount.

        Raises:
            RateLimited: it exceeds what the client has left; `retry_after` ends its minute.
            StoreUnavailable: the counters cannot be reached.
        """
        item = self._items.get(unit)
        if item is None or self._limiter is None:
            return
        async with redis_errors():
            # A refused hit would count, so it is tested first.
            if await self._limiter.test(
                item, client, unit, cost=amount
            ) and await self._limiter.hit(item, client, unit, cost=amount):
                return
            reset_at = (await self._limiter.get_window_stats(item, client, unit)).reset_time
        raise RateLimited(
            f"At most {item.amount:,} {unit} per minute are accepted from one client.",
            retry_after=reset_at - time.time(),
            limit=f"client_{unit}_per_minute",
            maximum=item.amount,
        )


@asynccontextmanager
async def open_limits(
    store: str, *, requests: int | None, pixels: int | None
) -> AsyncIterator[ClientLimits]:
    """Open the limits per minute, counted behind the URL of the stores; None without limits."""
    amounts: dict[Unit, int | None] = {"requests": requests, "pixels": pixels}
    if not any(amounts.values()):
        yield ClientLimits()
        return
    from limits import RateLimitItemPerMinute  # noqa: PLC0415 - only with limits
    from limits.aio.storage import MemoryStorage, RedisStorage  # noqa: PLC0415 - only with limits
    from limits.aio.strategies import FixedWindowRateLimiter  # noqa: PLC0415 - only with limits

    items = {
        unit: RateLimitItemPerMinute(amount, namespace="client")
        for unit, amount in amounts.items()
        if amount is not None
    }
    if urlsplit(store).scheme not in {"redis", "rediss"}:
        yield ClientLimits(FixedWindowRateLimiter(MemoryStorage()), items)
        return
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - only with limits

    from trustscale_server.stores.redis import PREFIX, retry  # noqa: PLC0415 - only with limits

    pool = ConnectionPool.from_url(
        store,
        socket_timeout=None,  # see `redis_client`
        socket_connect_timeout=ANSWER_TIMEOUT_S,
        retry=retry(),
    )
    async with aclosing(pool) as connections:
        storage = RedisStorage(
            f"async+{store}",
            implementation="redispy",
            key_prefix=f"{PREFIX}limits",
            connection_pool=connections,  # type: ignore[arg-type]
        )
        yield ClientLimits(FixedWindowRateLimiter(storage), items)


async def while_connected(
    request: Request,
    work: Coroutine[Any, Any, Value],
    *,
    finishes: Callable[[], bool] = lambda: False,
) -> Value:
    """Return the outcome of `work`, which is cancelled when the client hangs up.

    finishes: whether the work runs to its end nevertheless, asked at that moment.

    Raises:
        ClientDisconnected: the client hung up, and the work has stopped.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and finishes():
            await asyncio.wait({task})
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        raise ClientDisconnected
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


HEADER: Final = "Idempotency-Key"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=255,
        description="A text of your choice, new for each request. A repetition with the "
        "same key and body "
        "is answered with what the first one made, and costs nothing.",
    ),
]


class StoredResponse(NamedTuple):
    """The id of a result, job or calibration that a request created, and the answer."""

    id: str
    answer: Response


KEPT_S: Final = 86400.0
"""How long an `Idempotency-Key` is kept, with the result that was made under it."""


@dataclass(frozen=True, slots=True)
class IdempotencyKeys:
    """Recognises repeated requests.

    claims: shared by all gateways. lease_s: when the claim of a
    dead gateway expires. look_s: the interval of polling a request in flight. ignored: whether keys
    mean nothing.
    """

    claims: ClaimStore
    lease_s: float = 15.0
    look_s: float = 0.2
    ignored: bool = False

    async def once(
        self,
        request: Request,
        caller: str,
        make: Callable[[], Awaitable[StoredResponse]],
        recall: Callable[[str], Awaitable[Response]],
        body: bytes | None = None,
    ) -> Response:
        """Return the answer of `make`; under a known key, `recall` of the id that was made.

        Args:
            request: its form has been read.
            caller: of the key.
            make: does the work.
            recall: answers again, or raises NotFound.
            body: None: the request's is a form.

        Raises:
            BadRequest: the key was sent with another body.
        """
        key = request.headers.get(HEADER)
        if key is None or self.ignored:
            return (await make()).answer
        name = hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()
        claim = {"digest": await _digest(request, body), "by": secrets.token_hex(8)}
        mine = json.dumps(claim).encode()
        while (claimed := await self.claims.claim(name, mine, seconds=self.lease_s)) != mine:
            first = json.loads(claimed)
            if first["digest"] != claim["digest"]:
                raise BadRequest(f"This {HEADER} was sent with another request before.")
            if "made" not in first:
                await self._changed(name, claimed)
                continue
            with suppress(NotFound):
                return await recall(first["made"])
            await self.claims.replace(name, claimed, None, seconds=0)
        try:
            async with beside(self._renew(name, mine)):
                response = await make()
        except BaseException:
            await self._settle(name, mine, None)
            raise
        await self._settle(name, mine, json.dumps({**claim, "made": response.id}).encode())
        return response.answer

    async def _changed(self, name: str, claimed: bytes) -> None:
        while await self.claims.get(name) == claimed:  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(self.look_s)

    async def _settle(self, name: str, mine: bytes, end: bytes | None) -> None:
        """End a claim; what was made stays valid if the store is unavailable."""
        try:
            await self.claims.replace(name, mine, end, seconds=KEPT_S)
        except StoreUnavailable as error:
            log.warning("idempotency_key_not_stored", detail=error.detail)

    async def _renew(self, name: str, mine: bytes) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            with suppress(StoreUnavailable):
                await self.claims.replace(name, mine, mine, seconds=self.lease_s)


async def _digest(request: Request, body: bytes | None) -> str:
    """A digest of the request that ignores how a form was split into parts."""
    contents: list[str | bytes | BinaryIO] = [request.method, request.url.path, request.url.query]
    if body is not None:
        contents.append(body)
    else:
        for name, value in (await request.form()).multi_items():
            contents.append(name)
            contents += [value] if isinstance(value, str) else [value.filename or "", value.file]
    return await asyncio.to_thread(_hashed, contents)


def _hashed(contents: Sequence[str | bytes | BinaryIO]) -> str:
    whole = hashlib.blake2b(digest_size=32)
    for item in contents:
        content = item.encode() if isinstance(item, str) else item
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        whole.update(hashlib.file_digest(file, "blake2b").digest())  # type: ignore[arg-type]
        file.seek(0)
    return whole.hexdigest()


# --- Middleware: request id, log, trace, metrics by route template, security headers.

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Pages of another origin that show results need CORS headers from the proxy.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_OF_FILES = frozenset({b"x-content-type-options", b"cross-origin-resource-policy"})
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_DOCS_POLICY = f"{_POLICY}; {PAGE_POLICY}"
_PUBLIC = ("/docs", "/openapi.json", "/problems/")

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# Polled for ever; they have no traces.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

_FACTS = "trustscale.facts"


def note(request: Request, **facts: str | float | None) -> None:
    """Add facts about a request to its line in the log."""
    request.scope.setdefault(_FACTS, {}).update(facts)


class RequestContext:
    """Gives every request an id, logs it once, counts it by method, route template and status.

    As the outermost layer it gives every answer, also to an unexpected error, security headers and
    an `X-Request-ID` (a client's harmless one is kept), and turns the framework's plain-text 413
    into a problem document. HEAD is answered as GET; the server does not send the body.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        # Events would be awaited until their job ends, and none sent.
        if method == "HEAD" and not scope["path"].endswith("/events"):
            scope = {**scope, "method": "GET"}
        sent_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = sent_id if _SAFE_ID.fullmatch(sent_id) else secrets.token_hex(8)
        status, replaced = 0, False
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status, replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if status == 413 and _is_plain_text(message):
                    scope[SCOPE_KEY] = "image-too-large"
                    await problem_response(body_too_large())(scope, receive, send_with_id)
                    replaced = True
                    return
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    *_security_headers(scope["path"], message),
                ]
                # A slow client is not measured. This may be another task: the span is left later.
                self._record(scope, method, status, started, traced)
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        self.metrics.entered(1)
        stack = ExitStack()
        traced = stack.enter_context(_span(method, scope, request_id))
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            if status != 500:
                raise  # the answer had begun: only a broken connection informs the client
            # Answered and logged already.
        finally:
            if not status:
                self._record(scope, method, status, started, traced)
            stack.close()
            structlog.contextvars.unbind_contextvars("request_id")

    def _record(self, scope: Scope, method: str, status: int, started: float, traced: Span) -> None:
        """Count and log an answer that begins, or the lack of one, and end its span."""
        seconds = time.perf_counter() - started
        # One label for unknown paths, or scanners could fill the registry.
        route = getattr(scope.get("route"), "path", "unmatched")
        _finish(traced, method, route, status)
        self.metrics.entered(-1)
        self.metrics.request(method, route, status, seconds)
        if SCOPE_KEY in scope:
            self.metrics.count("error_responses", scope[SCOPE_KEY])
        access_log.info(
            "request",
            method=method,
            path=scope["path"],
            status=status,
            ms=round(1e3 * seconds, 1),
            client=(scope.get("client") or ("",))[0],
            **scope.get(_FACTS, {}),
        )


class OwnSite:
    """Refuses cross-site requests that change something, and foreign names of a local gateway.

    is_local: only this machine reaches the service. Then a foreign name in `Host` is that of a page
    whose server now claims to be here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, is_local: bool) -> None:
        self.app = app
        self.is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = self._fault(scope) if scope["type"] == "http" else None
        if detail is None:
            await self.app(scope, receive, send)
            return
        scope[SCOPE_KEY] = "forbidden"
        await problem_response(problem("forbidden", detail))(scope, receive, send)

    def _fault(self, scope: Scope) -> str | None:
        sent = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] not in _SAFE and sent.get(b"sec-fetch-site") == "cross-site":
            return "A page of another site sent this."
        if self.is_local and b"host" in sent and not is_local(_host(sent[b"host"])):
            return "This service listens for this machine only, under another name."
        return None


def is_local(host: str) -> bool:
    """Return whether a host name or address is that of the machine itself."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _host(authority: str) -> str:
    with suppress(ValueError):
        return urlsplit(f"//{authority}").hostname or ""
    return ""


def _span(method: str, scope: Scope, request_id: str) -> AbstractContextManager[Span]:
    if scope["path"] in _PROBES:
        return nullcontext(INVALID_SPAN)
    sent = dict(scope["headers"])
    parent = {
        name: sent[name.encode()].decode("latin-1")
        for name in ("traceparent", "tracestate")
        if name.encode() in sent
    }
    facts = {"trustscale.request_id": request_id}
    return span(method, facts, kind="server", parent=parent)


def _finish(traced: Span, method: str, route: str, status: int) -> None:
    """Record the outcome with the route, never with the path, which may name files."""
    traced.update_name(f"{method} {route}")
    traced.set_attributes(
        {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    )
    if status >= 500 or not status:
        fail(traced, str(status))
    traced.end()


def _security_headers(path: str, start: Message) -> list[tuple[bytes, bytes]]:
    sent = dict(start.get("headers", []))
    if path.startswith("/static/") and start["status"] == 200:
        # Of files that a page loads only a worker has a policy, which is its own: fifty of them are
        # a first view.
        return [header for header in _HEADERS if header[0] in _OF_FILES]
    policy = _DOCS_POLICY if path == "/docs" else _POLICY
    headers = [*_HEADERS, (b"content-security-policy", policy.encode())]
    if path.startswith("/v1/results/") and start["status"] == 200:
        # Results never change, but belong to one client and expire.
        headers.append((b"cache-control", b"private, max-age=300"))
    elif not path.startswith(_PUBLIC):
        headers.append((b"cache-control", b"no-store"))
    return [(name, value) for name, value in headers if name not in sent]


def _is_plain_text(start: Message) -> bool:
    kind = dict(start.get("headers", [])).get(b"content-type", b"")
    return bool(kind.startswith(b"text/plain"))


# --- Files as answers, sent in parts.

_PART: Final = 2**20


class Sent(StreamingResponse):
    """Sends a file in parts, and closes it at the end or when the client hangs up."""

    def __init__(self, file: IO[bytes], media_type: str, **headers: str) -> None:
        length = {"Content-Length": str(byte_size(file))}
        super().__init__(_parts(file), media_type=media_type, headers={**headers, **length})
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_PART):
        yield chunk


# --- The dependencies of path operations: the application's state, a valid key, known form fields.

_KEY_BYTES: Final = 32
_KEY_LENGTH: Final = 43  # characters of so many bytes in base64


class Keyring:
    """A set of keys, each `[NAME:]KEY`, kept as digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._ids: dict[bytes, str] = {}
        for text in keys:
            name, key = named_key(text)
            digest = _key_digest(key)
            self._ids[digest] = name or digest.hex()[:8]

    @property
    def empty(self) -> bool:
        return not self._ids

    def key_id(self, key: str | None) -> str | None:
        """Return the name of a key, else 8 digits of its digest, or None for an unknown key.

        Keys of one name are one client.
        """
        if not key:  # also where an empty one was configured by mistake
            return None
        digest = _key_digest(key)
        # All are compared, so that the time does not reveal which one matched.
        matches = [
            key_id for known, key_id in self._ids.items() if hmac.compare_digest(digest, known)
        ]
        return matches[0] if matches else None


def sent_key(headers: Mapping[str, str]) -> str | None:
    """Return the key in `Authorization: Bearer …` or `X-API-Key`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip() or None


def require(keyring: Keyring, headers: Mapping[str, str]) -> str:
    """Return the id of the key that was sent.

    Raises:
        Unauthorized: no key, or one that does not belong to the keyring.
    """
    key = sent_key(headers)
    key_id = keyring.key_id(key)
    if key_id is None:
        raise Unauthorized("The key is not valid." if key else "A key is needed.")
    return key_id


def stored_admin_key(data_dir: Path) -> tuple[str, Path]:
    """Return the installation's admin key and its file, made at the first start.

    Raises:
        ConfigError: the data folder cannot be written, or the stored key is damaged.
    """
    path = data_dir / "admin.key"
    try:
        data_dir.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if not path.exists():
            key = secrets.token_urlsafe(_KEY_BYTES)
            create_file(path, f"{key}\n".encode("ascii"), permissions=0o600)
        key = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"Cannot write the admin key to {path}: {error.strerror}.") from error
    if len(key) < _KEY_LENGTH or not key.isascii():
        raise ConfigError(
            f"The admin key in {path} is empty or damaged; remove the file, and the next start "
            "makes a new key."
        )
    return key, path


def _key_digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


# Uploads of the largest size that may arrive at once: their bytes are on the disk.
_MOST_BODIES: Final = 16


class Timings(NamedTuple):
    """Intervals and timeouts of a gateway that no setting changes, in seconds."""

    sweep_s: float = 60.0
    orphans_s: float = 6 * 3600.0  # of uploads without a job: object stores charge for listing
    # For tasks of a stopping gateway, which are repeated otherwise, and for uploads that arrive.
    drain_s: float = 5.0
    answer_s: float = 5.0  # of a component whose readiness is asked
    probe_s: float = 10.0  # between two health checks of an upscaler


TIMINGS: Final = Timings()


class Probes:
    """Checks each upscaler at most once per `rest_s` seconds, because a check may cost money."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._asked: dict[str, tuple[float, asyncio.Task[None]]] = {}

    async def check(self, upscaler: Upscaler) -> None:
        """Check an upscaler, unless it answered a moment ago.

        Raises:
            UpscalerUnavailable: it did not; or its circuit breaker is open, and it is not checked.
        """
        if getattr(upscaler, "breaker_open", False):
            raise UpscalerUnavailable(
                f"{upscaler.name!r} has failed many times in a row; it is called again as soon as "
                "it is back."
            )
        now = asyncio.get_running_loop().time()
        at, answer = self._asked.get(upscaler.name, (-math.inf, None))
        if answer is None or (answer.done() and now - at >= self._rest_s):
            answer = asyncio.create_task(upscaler.check())
            # Retrieves the error of a check that is no longer awaited.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked[upscaler.name] = now, answer
        await asyncio.shield(answer)

    async def aclose(self) -> None:
        """Cancel the checks in progress."""
        answers = [answer for _, answer in self._asked.values()]
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Services):
    """Everything `create_app` has wired together."""

    worker: asyncio.Task[None] | None  # runs jobs in this process
    metrics: Metrics
    timings: Timings
    client_keys: Keyring
    admin_keys: Keyring
    limits: ClientLimits
    idempotency: IdempotencyKeys
    probes: Probes
    bodies: Room
    stopping: asyncio.Event  # set when the server stops: what is endless ends
    operator: str | None = None  # the admin of an application that only its own process can reach

    @classmethod
    async def of(
        cls,
        services: Services,
        stack: AsyncExitStack,
        metrics: Metrics,
        timings: Timings,
        **more: Any,
    ) -> Self:
        """Make the state from the service's parts, and open what requests need besides."""
        held = {field.name: getattr(services, field.name) for field in fields(services)}
        common = {
            "probes": await stack.enter_async_context(aclosing(Probes(timings.probe_s))),
            "idempotency": IdempotencyKeys(services.stores.claims),
            "stopping": asyncio.Event(),
            "bodies": Room(
                _MOST_BODIES * max(services.settings.max_upload_bytes, MAX_TRUTH_BYTES),
                "bytes for uploads that arrive",
            ),
        }
        return cls(**{**held, **common, "metrics": metrics, "timings": timings, **more})

    async def audit(self, action: str, actor: str, **facts: Any) -> None:
        """Keep an admin action in the audit log, and log it."""
        await self.stores.audit.append(action, actor, facts)
        log.info("admin_action", action=action, actor=actor, **facts)


def _state(request: Request) -> State:
    state: State = request.state.trustscale
    return state


StateDep = Annotated[State, Depends(_state)]


_BEARER = HTTPBearer(scheme_name="bearer", auto_error=False)
_HEADER = APIKeyHeader(name="X-API-Key", scheme_name="header", auto_error=False)


def _keys(_: Annotated[Any, Depends(_BEARER)], __: Annotated[Any, Depends(_HEADER)]) -> None:
    """Documents how keys are sent; `sent_key` reads them."""


_Keys = Annotated[None, Depends(_keys)]


async def _client(request: Request, state: StateDep, _: _Keys = None) -> str | None:
    key = _client_key(request, state)
    await check_form(request)
    return key


def _client_key(request: Request, state: State) -> str | None:
    if state.client_keys.empty:
        return None
    is_admin = state.admin_keys.key_id(sent_key(request.headers)) is not None
    key = require(state.admin_keys if is_admin else state.client_keys, request.headers)
    note(request, key=key)
    return key


async def _admin(request: Request, state: StateDep, _: _Keys = None) -> str:
    key = require_admin(request, state)
    await check_form(request)
    return key


def require_admin(request: Request, state: State) -> str:
    """Return the name of the admin whose key was sent.

    Raises Unauthorized, Forbidden: a client's.
    """
    if state.operator is not None:
        return state.operator
    key = sent_key(request.headers)
    if state.client_keys.key_id(key) and not state.admin_keys.key_id(key):
        raise Forbidden("This is a client's key; an admin's key is needed.")
    key = require(state.admin_keys, request.headers)
    note(request, key=key)
    return f"key {key}"


class ClientRoute(APIRoute):
    """Checks the client's key before reading the body, of which there is room for some at once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the usual handler, behind the check, for the `current_client`."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            state = _state(request)
            current_client.set(client_name(request, _client_key(request, state)))
            if not {"content-length", "transfer-encoding"} & {*request.headers}:
                return await handle(request)
            async with AsyncExitStack() as until_read:
                share = await until_read.enter_async_context(state.bodies.held(0))

                async def receive() -> Message:
                    message = await request.receive()
                    state.bodies.grow(share, len(message.get("body", b"")))
                    if not message.get("more_body", False):
                        await until_read.aclose()
                    return message

                return await handle(Request(request.scope, receive))

        return check_and_handle


class AdminRoute(APIRoute):
    """Checks the admin's key before reading the body, which may have tens of gigabytes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the usual handler, behind the check."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            require_admin(request, _state(request))
            try:
                return await handle(request)
            except HTTPException as error:
                if not str(error.detail).startswith("Too many files"):
                    raise
                raise ImageTooLarge(
                    f"{str(error.detail).rstrip('.')}; send more as one archive (zip or tar).",
                    limit="max_files",
                ) from error

        return check_and_handle


def admin_router(path: str = "", *slugs: str) -> APIRouter:
    """Make a router for admins below /v1/admin; `slugs` are problems of all its operations."""
    return APIRouter(
        prefix=f"/v1/admin/{path}".rstrip("/"),
        tags=["admin"],
        route_class=AdminRoute,
        responses=problem_responses("unauthorized", "forbidden", *slugs),
    )


ClientDep = Annotated[str | None, Depends(_client)]
"""Id of the client's key; None when the public API is open."""

AdminDep = Annotated[str, Depends(_admin)]
"""Who the admin is, as in records and logs: `key` and the key's id."""


_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_MOST_NAMED = 5


async def check_form(request: Request) -> None:
    """Refuse a form with a field that the operation does not take; other bodies pass.

    Ignored, `aplha=0.03` would get the mask of α = 0.05; so would `?alpha=0.03` in the address.

    Raises:
        BadRequest: `fields` names the others, with what was probably meant.
    """
    operation = request.scope["route"].dependant
    accepted: dict[str, bool] = {}
    for dependant in (operation, *operation.dependencies):
        for field in dependant.body_params:
            info = field.field_info
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                for name, model_field in info.annotation.model_fields.items():
                    kinds = (model_field.annotation, *get_args(model_field.annotation))
                    accepted[name] = UploadFile in kinds
            elif isinstance(info, params.Form):
                accepted[field.alias] = isinstance(info, params.File)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if accepted and kind in _FORMS:
        in_address = set(request.query_params) & set(accepted)
        in_address -= {field.alias for field in operation.query_params}
        if in_address:
            names = ", ".join(sorted(in_address))
            raise BadRequest(f"Send {names} in the form, not in the address.")
        # Read already under the operation's limits; this returns the same object.
        check_fields(await request.form(), accepted)


def check_fields(form: FormData, accepted: Mapping[str, bool]) -> None:
    """Refuse a form with other fields than `accepted`, whose values say which are files.

    Raises:
        BadRequest: as `check_form`.
    """
    wrong: dict[str, str] = {}
    for name, value in form.multi_items():
        if name not in accepted:
            wrong[name] = _unknown(name, accepted)
        elif accepted[name] and isinstance(value, str) and value:
            wrong[name] = (
                f"this must be a file, and is the text {shortened(value)}; "
                f"with curl: -F {name}=@FILE, with an @"
            )
        if len(wrong) == _MOST_NAMED:
            break
    if wrong:
        detail = together((shortened(name), reason) for name, reason in wrong.items())
        items = [{"field": name[:80], "reason": reason} for name, reason in wrong.items()]
        raise BadRequest(detail, fields=items)


def _unknown(name: str, accepted: Iterable[str]) -> str:
    meant = did_you_mean(name, accepted) or f"; the form takes {', '.join(sorted(accepted))}"
    return f"there is no such field{meant}"
