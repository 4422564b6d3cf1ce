"""Where a command sends its requests: an application in this process, or with `--server` a server.

Both are asked by the client library. The key of a server comes from an environment variable only:
on the command line every user of the machine could read it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import httpx
import typer

from app.cli.local import inside
from app.errors import ConfigError, TrustscaleError, reason_of
from trustscale import AsyncTrustscale, Problem

Answer = TypeVar("Answer")

AWAY: Final = "away"
"""Of a RemoteError, where others have the type of the problem: no server answers."""

PATIENT: Final = 8
"""Retries while a job is watched, or a folder upscaled: the server may be restarted for some 50 s.
Other calls fail at once."""


class RemoteError(TrustscaleError):
    """A request was refused or failed, or no server can be reached; `members["type"]` says how."""


@asynccontextmanager
async def connected(
    server: str | None, key_env: str, *, needs_key: bool = True, retries: int = 0, **here: Any
) -> AsyncIterator[AsyncTrustscale]:
    """A client of a server, or of an application in this process, which `here` is for (`inside`).

    Raises:
        ConfigError: the variable is not set or holds no key, or the URL is none; or the settings
            cannot be used.
        RemoteError: what is refused.
    """
    with refusals(server):
        if server is None:
            async with inside(**here) as service:
                yield service
        else:
            url, key = connection(server, key_env, needs_key=needs_key)
            async with AsyncTrustscale(url, key, retries=retries) as service:
                yield service


def ask(
    server: str | None,
    key_env: str,
    question: Callable[[AsyncTrustscale], Awaitable[Answer]],
    *,
    needs_key: bool = True,
    **here: Any,
) -> Answer:
    """What a server answers, or the application in this process. Raises as `connected`."""

    async def answer() -> Answer:
        async with connected(server, key_env, needs_key=needs_key, **here) as service:
            return await question(service)

    return asyncio.run(answer())


def connection(server: str, key_env: str, *, needs_key: bool = True) -> tuple[str, str | None]:
    """The URL of a server, and the key of an environment variable.

    Raises:
        ConfigError: as `connected`.
    """
    if not server.startswith(("http://", "https://")):
        raise ConfigError("--server starts with http:// or https://.")
    try:
        httpx.URL(server)
    except httpx.InvalidURL as error:
        raise ConfigError(f"--server {server!r} is not a URL: {error}.") from None
    key = os.environ.get(key_env, "").strip()
    if needs_key and not key:
        raise ConfigError(
            f"The environment variable {key_env} is not set; it must hold an admin key of {server}."
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The environment variable {key_env} holds no key: it has letters that a header "
            "cannot carry."
        )
    return server, key or None


@contextmanager
def refusals(server: str | None) -> Iterator[None]:
    """Raise what is refused as RemoteError; pairs that it names are reported on standard error."""
    try:
        yield
    except Problem as problem:
        for item in problem.members.get("items") or []:
            typer.echo(f"{item['name']}: {item['reason']}", err=True)
        raise RemoteError(problem.detail, type=problem.type) from None
    except httpx.RequestError as error:
        raise RemoteError(f"Cannot reach {server}: {_reason(error)}.", type=AWAY) from error


def _reason(error: Exception) -> str:
    """What the system says of a connection that failed: asyncio hides it behind a common word."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):  # one for each address of a name
            cause = cause.exceptions[0]
        if isinstance(cause, OSError) and cause.errno is not None:
            return reason_of(cause)
        cause = cause.__cause__ or cause.__context__
    return reason_of(error)
