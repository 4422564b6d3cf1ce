"""Request id, log, trace, metrics by route template, and security headers."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from urllib.parse import urlsplit

import structlog
from fastapi import Request
from opentelemetry.trace import INVALID_SPAN, Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trustscale_server.http.openapi import PAGE_POLICY
from trustscale_server.http.problems import SCOPE_KEY, problem_response
from trustscale_server.platform.problems import body_too_large, problem
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.platform.telemetry.traces import fail, span

access_log = structlog.get_logger("access")


_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Pages of another origin that show results need CORS headers from the proxy.
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_FILE_HEADERS = frozenset({b"x-content-type-options", b"cross-origin-resource-policy"})
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# Polled for ever; they have no traces, and lines in the log only where they fail.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

_ATTRIBUTES = "trustscale.attributes"


def note(request: Request, **attributes: str | float | None) -> None:
    """Add attributes about a request to its line in the log."""
    request.scope.setdefault(_ATTRIBUTES, {}).update(attributes)


def own_path(scope: Scope) -> str:
    """Return the path of a request without the prefix below which a proxy offers the service."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _with_own_location(
    scope: Scope, headers: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Headers with the prefix in a `Location` that is a path of the service."""
    prefix = scope.get("root_path", "").encode()
    return [
        (name, prefix + value if name == b"location" and value.startswith(b"/") else value)
        for name, value in headers
    ]


class RequestContext:
    """Gives every request an id, logs it once, counts it by method, route template and status.

    It is the outermost layer. So every answer has security headers and an `X-Request-ID` (a
    client's harmless one is kept), even that to an unexpected error; and the framework's plain-text
    413 becomes a problem document. HEAD is answered as GET; the server does not send the body.

    path_prefix: the path below which a proxy offers the service, which strips it or not.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, path_prefix: str = "") -> None:
        self.app = app
        self.metrics = metrics
        self.path_prefix = path_prefix

    def _with_prefix(self, scope: Scope) -> Scope:
        """The request as if its proxy had kept the prefix."""
        path, prefix = scope["path"], self.path_prefix
        path = path if path.startswith(f"{prefix}/") else f"{prefix}{path}"
        return {**scope, "root_path": prefix, "path": path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        scope = self._with_prefix(scope)
        # Events would be awaited until their job ends, and none sent.
        if method == "HEAD" and not scope["path"].endswith("/events"):
            scope = {**scope, "method": "GET"}
        sent_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = sent_id if _SAFE_ID.fullmatch(sent_id) else secrets.token_hex(8)
        status, is_replaced = 0, False
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_replaced
            if is_replaced:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if status == 413 and _is_plain_text(message):
                    scope[SCOPE_KEY] = "image-too-large"
                    await problem_response(body_too_large())(scope, receive, send_with_id)
                    is_replaced = True
                    return
                message["headers"] = [
                    *_with_own_location(scope, message.get("headers", [])),
                    (b"x-request-id", request_id.encode()),
                    *_security_headers(own_path(scope), message),
                ]
                # Before it is sent, so that a slow client is not measured. The span only ends here:
                # this may be another task, and a context is left where it was entered.
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
        _end_span(traced, method, route, status)
        self.metrics.entered(-1)
        self.metrics.request(method, route, status, seconds)
        problem_type = {"type": scope[SCOPE_KEY]} if SCOPE_KEY in scope else {}
        if problem_type:
            self.metrics.count("error_responses", problem_type["type"])
        is_routine = own_path(scope) in _PROBES and status < 400
        (access_log.debug if is_routine else access_log.info)(
            "request",
            method=method,
            path=scope["path"],
            status=status,
            ms=round(1e3 * seconds, 1),
            client=(scope.get("client") or ("",))[0],
            **problem_type,
            **scope.get(_ATTRIBUTES, {}),
        )


class OwnSite:
    """Refuses changes that pages of other sites send, and foreign names of a local gateway.

    Browsers say in `Sec-Fetch-Site` whose page sends a request, older ones in `Origin` only;
    other programs say neither. A gateway for a network also serves pages of its own site, and does
    not compare an `Origin`, since a proxy may have changed `Host`; but no page of ours is `null`.

    is_local: only this machine reaches the service. Then pages of its other ports are strangers',
    and a foreign name in `Host` comes from a page whose server claims to be this machine (DNS
    rebinding).
    """

    def __init__(self, app: ASGIApp, *, is_local: bool) -> None:
        self.app = app
        self.is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = self._refusal(scope) if scope["type"] == "http" else None
        if detail is None:
            await self.app(scope, receive, send)
            return
        scope[SCOPE_KEY] = "forbidden"
        await problem_response(problem("forbidden", detail))(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        sent = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] not in _SAFE_METHODS and self._is_foreign(sent):
            return "A page of another site sent this."
        if self.is_local and b"host" in sent and not is_local(_host_name(sent[b"host"])):
            return "This service answers this machine only, by the name localhost or 127.0.0.1."
        return None

    def _is_foreign(self, sent: Mapping[bytes, str]) -> bool:
        site = sent.get(b"sec-fetch-site", "").strip().lower()
        if site:
            own_sites = {"same-origin", "none"} | (set() if self.is_local else {"same-site"})
            return site not in own_sites
        origin = sent.get(b"origin", "").strip().lower()
        own = f"http://{sent.get(b'host', '').strip().lower()}"
        return origin == "null" or (self.is_local and origin not in {"", own})


def is_local(host: str) -> bool:
    """Return whether a host name or address is that of the machine itself."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _host_name(authority: str) -> str:
    with suppress(ValueError):
        return urlsplit(f"//{authority}").hostname or ""
    return ""


def _span(method: str, scope: Scope, request_id: str) -> AbstractContextManager[Span]:
    if own_path(scope) in _PROBES:
        return nullcontext(INVALID_SPAN)
    sent = dict(scope["headers"])
    parent = {
        name: sent[name.encode()].decode("latin-1")
        for name in ("traceparent", "tracestate")
        if name.encode() in sent
    }
    attributes = {"trustscale.request_id": request_id}
    return span(method, attributes, kind="server", parent=parent)


def _end_span(traced: Span, method: str, route: str, status: int) -> None:
    """End a span with its outcome and its route, never with the path, which may name files."""
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
        # A first view loads fifty of these, so they have no headers that browsers would ignore.
        # Only a web worker needs a policy, which its answer already has (`web/routes.py`).
        return [header for header in _SECURITY_HEADERS if header[0] in _FILE_HEADERS]
    policy = f"{_POLICY}; {PAGE_POLICY}" if path == "/docs" else _POLICY
    headers = [*_SECURITY_HEADERS, (b"content-security-policy", policy.encode())]
    if path.startswith("/v1/results/") and start["status"] == 200:
        # Results never change, but belong to one client and expire.
        headers.append((b"cache-control", b"private, max-age=300"))
    elif not path.startswith(("/docs", "/openapi.json", "/problems/")):
        headers.append((b"cache-control", b"no-store"))
    return [(name, value) for name, value in headers if name not in sent]


def _is_plain_text(start: Message) -> bool:
    media_type = dict(start.get("headers", [])).get(b"content-type", b"")
    return bool(media_type.startswith(b"text/plain"))
