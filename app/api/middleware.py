"""Pure ASGI middleware: request id, log context, metrics by route template."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import body_too_large
from app.metrics import Metrics

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("access")


class RequestContext:
    """Gives every request an id, logs it once, counts it by method, route template and status.

    A client's own `X-Request-ID` is kept if it is harmless; the answer always carries one, also
    the answer to an error that nobody expected. It must be the outermost layer for that, and so
    that the plain text of the framework's limit on bodies becomes a problem document.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
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
                    await body_too_large()(scope, receive, send_with_id)
                    replaced = True
                    return
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            if status != 500:
                raise  # the answer had begun: only breaking the connection tells the client
            # Answered and logged already; nothing is left for the server to do.
        finally:
            seconds = time.perf_counter() - started
            # Unknown paths share one label, so that scanners cannot fill the registry.
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.in_flight.dec()
            self.metrics.request(scope["method"], route, status, seconds)
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(1e3 * seconds, 1),
            )
            structlog.contextvars.unbind_contextvars("request_id")


def _is_plain_text(start: Message) -> bool:
    kind = dict(start.get("headers", [])).get(b"content-type", b"")
    return bool(kind.startswith(b"text/plain"))
