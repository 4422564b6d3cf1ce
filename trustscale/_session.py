"""How a service is asked: methods that are written once, and what becomes of a request.

A method is a coroutine. Of an object that blocks, all that it awaits is a request or a pause that
blocks; so it ends in its first step, and the method returns its value. Of the others it is awaited.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

import httpx

from trustscale._problem import Problem

P = ParamSpec("P")
Value = TypeVar("Value")

# Waits without a Retry-After: they grow up to the last one.
_WAITS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_LONGEST_WAIT_S: Final = 120.0

# What a proxy answers while the server behind it is restarted; what the service says when it has
# no room for a request, of which it has done nothing then.
_AWAY: Final = frozenset({502, 503, 504})
_NO_ROOM: Final = frozenset({429, 503})

_TOO_SLOW: Final = "/problems/too-slow"

_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Blocking:
    """Its methods return values."""


class Awaited:
    """Its methods are awaited."""


class method(Generic[P, Value]):  # noqa: N801 - a decorator
    """Makes a coroutine a method of blocking and of awaited objects."""

    def __init__(
        self, coroutine: Callable[Concatenate[Any, P], Coroutine[Any, Any, Value]]
    ) -> None:
        self._coroutine = coroutine
        self.__doc__ = coroutine.__doc__

    @overload
    def __get__(self, owner: Blocking, kind: object = None) -> Callable[P, Value]: ...
    @overload
    def __get__(self, owner: Awaited, kind: object = None) -> Callable[P, Awaitable[Value]]: ...
    def __get__(self, owner: Any, kind: object = None) -> Any:
        if owner is None:
            return self._coroutine
        if not isinstance(owner, Blocking):
            return types.MethodType(self._coroutine, owner)

        @functools.wraps(self._coroutine)
        def at_once(*args: P.args, **options: P.kwargs) -> Value:
            return _value(self._coroutine(owner, *args, **options))

        return at_once


def _value(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: Value = end.value
        return value
    raise AssertionError


class Session:
    """Sends requests, and repeats those that found no room or no server where that costs nothing.

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
        """Do nothing for a while."""
        await _settled(self._sleep(seconds))

    async def send(
        self, verb: str, path: str, *, retries: int = 0, **options: Any
    ) -> httpx.Response:
        """The answer to a request that succeeds; the options are those of httpx.

        `retries`: at least so many.

        Raises:
            Problem: the service refuses.
            httpx.TransportError: it cannot be reached.
        """
        reads = verb == "GET"
        # Of a request under a key the answer may be lost; what it made is not.
        is_known_again = verb in {"GET", "PUT"} or "Idempotency-Key" in options.get("headers", ())
        most = max(retries, self._retries)
        attempt = 0
        while True:
            is_last = attempt == most
            wait = _WAITS[min(attempt, len(_WAITS) - 1)]
            try:
                response = await _settled(self._http.request(verb, path, **options))
            except httpx.TransportError as error:
                is_over = isinstance(error, httpx.ReadTimeout)  # it would be so again
                passes = is_known_again or isinstance(error, _BEFORE_SENDING)
                if is_last or is_over or not passes:
                    raise _named(error, self._http.base_url) from error
            else:
                if response.is_success:
                    return response
                problem = Problem.of(response)
                wait = wait if problem.retry_after is None else problem.retry_after
                passes = response.status_code in (_AWAY if reads else _NO_ROOM)
                is_over = problem.type == _TOO_SLOW
                if is_last or is_over or not passes or wait > _LONGEST_WAIT_S:
                    raise problem
            await self.pause(wait)
            attempt += 1

    async def document(
        self, verb: str, path: str, member: str | None = "id", **options: Any
    ) -> Any:
        """The JSON that answers a request: an object with this member; None: a list.

        Raises:
            Problem: also if the server is something else.
        """
        response = await self.send(verb, path, **options)
        try:
            found = response.json()
        except ValueError:
            found = None
        fits = isinstance(found, dict) and member in found if member else isinstance(found, list)
        if not fits:
            raise Problem.of_another(response)
        return found


def _named(error: httpx.TransportError, address: httpx.URL) -> httpx.TransportError:
    """The same error, whose message says who could not be reached."""
    message = f"{address}: {error or type(error).__name__}"
    return type(error)(message, request=error.request)


async def _settled(value: Value | Awaitable[Value]) -> Value:
    return await value if isinstance(value, Awaitable) else value
