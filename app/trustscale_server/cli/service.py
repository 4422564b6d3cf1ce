"""Where a command sends its requests: the service in this process, or with `--server` a server.

Both are asked by the client library. The key of a server comes from the environment, since every
user of the machine can read arguments.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import httpx
import typer

from trustscale import AsyncTrustscale, Problem
from trustscale_server.bootstrap.sources import KEY_VARIABLE
from trustscale_server.cli.in_process import client_in_process
from trustscale_server.platform.errors import ConfigError, TrustscaleError, reason_of

T = TypeVar("T")


UNREACHABLE: Final = "away"
"""The type of a RemoteError when no server answers."""

PATIENT_RETRIES: Final = 8
"""Retries while a job is watched or a folder upscaled: a restart of the server takes some 50 s."""


class RemoteError(TrustscaleError):
    """A request was refused or failed, or no server can be reached; `members["type"]` says how."""


@asynccontextmanager
async def service_client(
    server: str | None, *, needs_key: bool = True, retries: int = 0, **options: Any
) -> AsyncIterator[AsyncTrustscale]:
    """Open a client of a server, or of an application in this process.

    Raises:
        ConfigError: the server's key or URL, or the settings, cannot be used.
        RemoteError: a request is refused.
    """
    with refusals(server):
        if server is None:
            async with client_in_process(**options) as service:
                yield service
        else:
            key = key_of(server, needs_key=needs_key)
            async with AsyncTrustscale(server, key, retries=retries) as service:
                yield service


def ask(
    server: str | None,
    question: Callable[[AsyncTrustscale], Awaitable[T]],
    *,
    needs_key: bool = True,
    **options: Any,
) -> T:
    """Return the answer of a server, or of the application in this process.

    Raises as `service_client`.
    """

    async def answer() -> T:
        async with service_client(server, needs_key=needs_key, **options) as service:
            return await question(service)

    return asyncio.run(answer())


def key_of(server: str, *, needs_key: bool = True) -> str | None:
    """Return the key for a server from the environment. Raises ConfigError, also for a bad URL."""
    if not server.startswith(("http://", "https://")):
        raise ConfigError("--server starts with http:// or https://.")
    try:
        httpx.URL(server)
    except httpx.InvalidURL as error:
        raise ConfigError(f"--server {server!r} is not a URL: {error}.") from None
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if needs_key and not key:
        raise ConfigError(
            f"The environment variable {KEY_VARIABLE} is not set; it must hold an admin key of "
            f"{server}."
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The environment variable {KEY_VARIABLE} holds no key: it has letters that a header "
            "cannot carry."
        )
    return key or None


@contextmanager
def refusals(server: str | None) -> Iterator[None]:
    """Raise problems as RemoteError, and print the pairs that they name to standard error."""
    try:
        yield
    except Problem as problem:
        for item in problem.members.get("items") or []:
            typer.echo(f"{item['name']}: {item['reason']}", err=True)
        raise RemoteError(problem.detail, type=problem.type) from None
    except httpx.RequestError as error:
        raise RemoteError(f"Cannot reach {server}: {_reason(error)}.", type=UNREACHABLE) from error


def _reason(error: Exception) -> str:
    """The system's reason for a failed connection, which asyncio hides behind a general one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):  # one for each address of a name
            cause = cause.exceptions[0]
        if isinstance(cause, OSError) and cause.errno is not None:
            return reason_of(cause)
        cause = cause.__cause__ or cause.__context__
    return reason_of(error)
