"""Requests to a service, and methods that are written once, blocking or awaited.

A method is a coroutine. On a blocking object all that it awaits blocks, so it ends in its first
step, and the method returns its value.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

import httpx

P = ParamSpec("P")
T = TypeVar("T")

_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)  # without Retry-After; the last one repeats
_MAX_PAUSE_S: Final = 120.0

# Status codes: of a proxy, while the server behind it restarts; and of a service that had no room
# and has done nothing.
_AWAY: Final = frozenset({502, 503, 504})
_NO_ROOM: Final = frozenset({429, 503})

_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Problem(Exception):
    """A problem document (RFC 9457).

    type: such as `/problems/bad-image`; `about:blank` for other answers. status: the status code
    of HTTP; 0 for a failed job. members: the other members, such as `items`, `differences` or
    `fields`. retry_after: in seconds, or None.
    """

    def __init__(self, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        members = dict(document)
        self.type = str(members.pop("type", "about:blank"))
        self.title = str(members.pop("title", "Problem"))
        self.status = int(members.pop("status", 0))
        self.detail = str(members.pop("detail", self.title))
        self.members = members
        self.retry_after = retry_after
        super().__init__(self.detail)

    @classmethod
    def from_response(cls, response: httpx.Response) -> Problem:
        """Read the problem of an unsuccessful answer, whatever its body."""
        try:
            document = response.json()
            document = {**document, "detail": document["detail"]}
        except (ValueError, KeyError, TypeError):
            status_line = f"{response.status_code} {response.reason_phrase}"
            document = {"detail": f"{response.url.host} answered {status_line}."}
        document["status"] = response.status_code  # other servers send text
        after = response.headers.get("Retry-After", "")
        return cls(document, float(after) if after.isdecimal() else None)

    @classmethod
    def from_stranger(cls, response: httpx.Response) -> Problem:
        """Make the problem of an answer that is not Trustscale's."""
        return cls({"detail": f"{response.url} does not answer as Trustscale does to this."})


class Blocking:
    """Objects whose methods return values."""


class Awaited:
    """Objects whose methods are awaited."""


class method(Generic[P, T]):  # noqa: N801 - a decorator
    """Make a coroutine function a method of blocking and awaited objects."""

    def __init__(self, coroutine: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        self._coroutine = coroutine
        self.__doc__ = coroutine.__doc__

    @overload
    def __get__(self, owner: Blocking, kind: object = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Awaited, kind: object = None) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, owner: Any, kind: object = None) -> Any:
        if owner is None:
            return self._coroutine
        if not isinstance(owner, Blocking):
            return types.MethodType(self._coroutine, owner)

        @functools.wraps(self._coroutine)
        def at_once(*args: P.args, **options: P.kwargs) -> T:
            return _value(self._coroutine(owner, *args, **options))

        return at_once


def _value(coroutine: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError


class Session:
    """Sends requests; retries where no room or no server was found, if that costs nothing.

    http, sleep: both blocking, or both awaited.
    """

    def __init__(
        self,
        http: httpx.Client | httpx.AsyncClient,
        sleep: Callable[[float], Awaitable[None] | None],
        retries: int,
    ) -> None:
        self._http = http
        self._sleep = sleep
        self._retries = retries

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        await settled(self._sleep(seconds))

    def _without_base_path(self, path: str) -> str:
        """A path without that of the service's address, which httpx puts before it."""
        prefix = self._http.base_url.path.rstrip("/")
        return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path

    async def send(
        self, verb: str, path: str, *, retries: int = 0, **options: Any
    ) -> httpx.Response:
        """Send until a successful answer, with at least `retries`; `options` are those of httpx.

        Raises:
            Problem: the service refuses.
            httpx.TransportError: it cannot be reached.
        """
        # With an idempotency key only the answer can be lost.
        is_repeatable = verb in {"GET", "PUT"} or "Idempotency-Key" in options.get("headers", ())
        max_retries = max(retries, self._retries)
        attempt = 0
        while True:
            is_last = attempt == max_retries
            pause_s = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            try:
                response = await settled(
                    self._http.request(verb, self._without_base_path(path), **options)
                )
            except httpx.TransportError as error:
                if is_last or not _may_reach(error, is_repeatable=is_repeatable):
                    raise _with_address(error, self._http.base_url) from error
            else:
                if response.is_success:
                    return response
                problem = Problem.from_response(response)
                pause_s = pause_s if problem.retry_after is None else problem.retry_after
                if is_last or pause_s > _MAX_PAUSE_S or not _may_pass(problem, verb):
                    raise problem
            await self.pause(pause_s)
            attempt += 1

    async def document(
        self, verb: str, path: str, member: str | None = "id", **options: Any
    ) -> Any:
        """Return the JSON answer to a request: an object with this member, or a list for None.

        Raises:
            Problem: also if the server is not Trustscale.
        """
        response = await self.send(verb, path, **options)
        try:
            document = response.json()
        except ValueError:
            document = None
        is_expected = (
            isinstance(document, dict) and member in document
            if member
            else isinstance(document, list)
        )
        if not is_expected:
            raise Problem.from_stranger(response)
        return document


def _may_reach(error: httpx.TransportError, *, is_repeatable: bool) -> bool:
    """Whether the same request may be sent again, and may get an answer then."""
    if isinstance(error, httpx.ReadTimeout):  # it would time out again
        return False
    return is_repeatable or isinstance(error, _BEFORE_SENDING)


def _may_pass(problem: Problem, verb: str) -> bool:
    """Whether the service may answer the same request later, and has done nothing for it yet."""
    if problem.type == "/problems/too-slow":
        return False
    return problem.status in (_AWAY if verb == "GET" else _NO_ROOM)


def _with_address(error: httpx.TransportError, address: httpx.URL) -> httpx.TransportError:
    message = f"{address}: {error or type(error).__name__}"
    return type(error)(message, request=error.request)


async def settled(value: T | Awaitable[T]) -> T:
    """Return the value of a blocking or an awaited call."""
    return await value if isinstance(value, Awaitable) else value
