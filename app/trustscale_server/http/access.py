"""Who may use an operation: keys are checked before bodies are read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import Message

from trustscale_server.http.auth import require, sent_key
from trustscale_server.http.clients import client_name
from trustscale_server.http.connection import disconnected
from trustscale_server.http.forms import check_form
from trustscale_server.http.middleware import note
from trustscale_server.http.problems import ClientDisconnected, problem_responses
from trustscale_server.http.state import State, StateDep, state_of
from trustscale_server.platform.abandoned import NoLongerWaiting, caller_leaves
from trustscale_server.platform.errors import Forbidden, ImageTooLarge, Overloaded
from trustscale_server.platform.fair import current_client

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
    """Checks the client's key before reading the body; there is room for some bodies at once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the usual handler, behind the check, for the `current_client`."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            state = state_of(request)
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
            state = state_of(request)
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
