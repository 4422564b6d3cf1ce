"""What path operations ask for, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final, NamedTuple, Self

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException

from app.api.auth import Keyring, require, sent_key
from app.api.forms import check_form
from app.api.idempotency import IdempotencyKeys
from app.api.limits import ClientLimits
from app.api.probes import Probes
from app.api.problems import problem_responses
from app.assembly import Parts
from app.errors import Forbidden, ImageTooLarge
from app.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Timings(NamedTuple):
    """Seconds: how often and how long the gateway does what no setting says."""

    sweep_s: float = 60.0
    # Looking for uploads without a job lists the whole blobs, which an object store is paid for.
    orphans_s: float = 6 * 3600.0
    # What a stopping gateway gives a pair or an upscaling job in work; it is repeated otherwise.
    drain_s: float = 5.0
    # What a component has to say whether it is ready.
    answer_s: float = 5.0
    # Between two questions to an upscaler whether it is there.
    probe_s: float = 10.0


TIMINGS: Final = Timings()


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Parts):
    """Everything `create_app` has wired together."""

    worker: asyncio.Task[None] | None  # runs jobs in this process
    metrics: Metrics
    timings: Timings
    client_keys: Keyring
    admin_keys: Keyring
    limits: ClientLimits
    idempotency: IdempotencyKeys
    probes: Probes
    operator: str | None = None  # the admin of an application that only its own process can ask

    @classmethod
    async def of(
        cls,
        parts: Parts,
        stack: AsyncExitStack,
        metrics: Metrics,
        timings: Timings,
        **more: Any,
    ) -> Self:
        """Parts with what requests need besides; the stack closes it."""
        held = {field.name: getattr(parts, field.name) for field in fields(parts)}
        common = {
            "probes": await stack.enter_async_context(aclosing(Probes(timings.probe_s))),
            "idempotency": IdempotencyKeys(parts.stores.claims, parts.settings.idempotency_ttl_s),
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
    """Says in the OpenAPI document how keys are sent; they are read by `app/api/auth.py`."""


_Keys = Annotated[None, Depends(_keys)]


async def _client(request: Request, state: StateDep, _: _Keys = None) -> str | None:
    key = None
    if not state.client_keys.empty:
        is_admin = state.admin_keys.key_id(sent_key(request.headers)) is not None
        key = require(state.admin_keys if is_admin else state.client_keys, request.headers)
    await check_form(request)  # strangers are not told what a form takes
    return key


async def _admin(request: Request, state: StateDep, _: _Keys = None) -> str:
    key = _admin_key(request, state)
    await check_form(request)
    return key


def _admin_key(request: Request, state: State) -> str:
    if state.operator is not None:
        return state.operator
    key = sent_key(request.headers)
    if state.client_keys.key_id(key) and not state.admin_keys.key_id(key):
        raise Forbidden("This is a client's key; an admin's key is needed.")
    return f"key {require(state.admin_keys, request.headers)}"


class AdminRoute(APIRoute):
    """Asks for the admin's key before the body is read: uploads here may be tens of gigabytes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual handler, behind the check."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            _admin_key(request, _state(request))
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


def admin_router(path: str, *slugs: str) -> APIRouter:
    """A router for admins, below /v1/admin; the slugs are of problems that all its answers know."""
    return APIRouter(
        prefix=f"/v1/admin/{path}",
        tags=["admin"],
        route_class=AdminRoute,
        responses=problem_responses("unauthorized", "forbidden", *slugs),
    )


ClientDep = Annotated[str | None, Depends(_client)]
"""Id of the client's key; None when the public API is open."""

AdminDep = Annotated[str, Depends(_admin)]
"""Who the admin is, as records and logs say it: `key` and the key's id."""
