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

from trustscale_server.http.auth import authenticate, sent_key
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
    key_id = _client_key_id(request, state)
    await check_form(request)
    return key_id


def _client_key_id(request: Request, state: State) -> str | None:
    if state.client_keys.is_empty:
        return None
    is_admin = state.admin_keys.key_id(sent_key(request.headers)) is not None
    key_id = authenticate(state.admin_keys if is_admin else state.client_keys, request.headers)
    note(request, key=key_id)
    return key_id


async def _admin(request: Request, state: StateDep, _: _Keys = None) -> str:
    admin = require_admin(request, state)
    await check_form(request)
    return admin


def require_admin(request: Request, state: State) -> str:
    """Return the name of the admin whose key was sent.

    Raises:
        Unauthorized: no key was sent, or an unknown one.
        Forbidden: the key is a client's.
    """
    if state.operator is not None:
        return state.operator
    key = sent_key(request.headers)
    if state.client_keys.key_id(key) and not state.admin_keys.key_id(key):
        raise Forbidden("This is a client's key; an admin's key is needed.")
    key_id = authenticate(state.admin_keys, request.headers)
    note(request, key=key_id)
    return f"key {key_id}"


class _ClientRoute(APIRoute):
    """Checks the client's key before the body is read; `State.bodies` bounds all bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the usual handler, behind the check, for the `current_client`."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            state = state_of(request)
            current_client.set(client_name(request, _client_key_id(request, state)))
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
            # In one process a request shares its context with its caller, who goes on.
            before = caller_leaves.set(partial(_caller_left, request, state))
            try:
                return await handle(request)
            except NoLongerWaiting:
                if state.stopping.is_set():
                    raise Overloaded("The service is stopping.") from None
                raise ClientDisconnected from None
            except HTTPException as error:
                # Starlette names a limit of its forms in the text only.
                if not str(error.detail).startswith("Too many files"):
                    raise
                raise ImageTooLarge(
                    f"{str(error.detail).rstrip('.')}; send more as one archive (zip or tar).",
                    limit="max_files",
                ) from error
            finally:
                caller_leaves.reset(before)

        return check_and_handle


async def _caller_left(request: Request, state: State) -> None:
    """Return when the client hangs up, or `drain_s` after the service begins to stop."""

    async def drained() -> None:
        await state.stopping.wait()
        await asyncio.sleep(state.timings.drain_s)

    reasons = {asyncio.create_task(disconnected(request)), asyncio.create_task(drained())}
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
