"""The dependencies of path operations: the application's state and a valid key."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, Self

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import Message

from trustscale_server.bootstrap.assembly import Services
from trustscale_server.http.auth import Keyring, require, sent_key
from trustscale_server.http.clients import ClientLimits, LimitedUnit, client_name
from trustscale_server.http.connection import disconnected
from trustscale_server.http.forms import check_form
from trustscale_server.http.idempotency import IdempotencyKeys
from trustscale_server.http.middleware import note
from trustscale_server.http.problems import ClientDisconnected, problem_responses
from trustscale_server.monitoring.feedback import MAX_TRUTH_BYTES
from trustscale_server.platform.abandoned import NoLongerWaiting, caller_leaves
from trustscale_server.platform.errors import (
    Forbidden,
    ImageTooLarge,
    Overloaded,
    UpscalerUnavailable,
)
from trustscale_server.platform.fair import Room, current_client
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.upscalers.base import Upscaler


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

    async def probe(self, upscaler: Upscaler) -> None:
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
            answer = asyncio.create_task(upscaler.probe())
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
    async def from_services(
        cls,
        services: Services,
        stack: AsyncExitStack,
        metrics: Metrics,
        timings: Timings,
        **members: Any,
    ) -> Self:
        """Make the state from the service's parts, and open what requests need besides."""
        held = {field.name: getattr(services, field.name) for field in fields(services)}
        common = {
            "probes": await stack.enter_async_context(aclosing(Probes(timings.probe_s))),
            "idempotency": IdempotencyKeys(services.stores.claims),
            "stopping": asyncio.Event(),
            # As many uploads of the largest size may arrive at once: their bytes are on the disk.
            "bodies": Room(
                16 * max(services.settings.max_upload_bytes, MAX_TRUTH_BYTES),
                "bytes for uploads that arrive",
            ),
        }
        return cls(**{**held, **common, "metrics": metrics, "timings": timings, **members})

    async def charge(self, unit: LimitedUnit, amount: int = 1) -> None:
        """Count what the current client asks for. Raises RateLimited, StoreUnavailable."""
        await self.limits.take(current_client.get(), unit, amount)


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


class _ClientRoute(APIRoute):
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


class _AdminRoute(APIRoute):
    """Checks the admin's key before reading the body, which may have tens of gigabytes.

    Work in spare threads ends when the client hangs up, or some seconds after the service stops.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the usual handler, behind the check."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            state = _state(request)
            require_admin(request, state)
            caller_leaves.set(partial(_left, request, state))
            try:
                return await handle(request)
            except NoLongerWaiting:
                if state.stopping.is_set():
                    raise Overloaded("The service is stopping.") from None
                raise ClientDisconnected from None
            except HTTPException as error:
                if not str(error.detail).startswith("Too many files"):
                    raise
                raise ImageTooLarge(
                    f"{str(error.detail).rstrip('.')}; send more as one archive (zip or tar).",
                    limit="max_files",
                ) from error

        return check_and_handle


async def _left(request: Request, state: State) -> None:
    """Return when nobody waits for the answer, or when the service stops, which is not for long."""

    async def stopped() -> None:
        await state.stopping.wait()
        await asyncio.sleep(state.timings.drain_s)

    reasons = {asyncio.create_task(disconnected(request)), asyncio.create_task(stopped())}
    try:
        await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for reason in reasons:
            reason.cancel()


def client_router(prefix: str = "", *slugs: str, tag: str = "upscale") -> APIRouter:
    """Make a router for clients; `slugs` are problems of all its operations."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=_ClientRoute,
        responses=problem_responses(*slugs),
    )


def admin_router(path: str = "", *slugs: str) -> APIRouter:
    """Make a router for admins below /v1/admin; `slugs` are problems of all its operations."""
    return APIRouter(
        prefix=f"/v1/admin/{path}".rstrip("/"),
        tags=["admin"],
        route_class=_AdminRoute,
        responses=problem_responses("unauthorized", "forbidden", *slugs),
    )


ClientDep = Annotated[str | None, Depends(_client)]
"""Id of the client's key; None when the public API is open."""

AdminDep = Annotated[str, Depends(_admin)]
"""Who the admin is, as in records and logs: `key` and the key's id."""
