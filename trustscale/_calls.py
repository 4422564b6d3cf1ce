"""What the methods are made of: generators that ask for calls and pauses, and do neither.

A flow yields a `Call` and is sent the response, or is thrown what became of it; it yields a `Pause`
and goes on after it. Whoever runs it decides how: blocking, or in an event loop (`_client.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import httpx

from trustscale._problem import Problem, stranger

Value = TypeVar("Value")

# Waits without a Retry-After: they grow up to the last one.
_WAITS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)

# What a proxy answers while the server behind it is restarted; what the service says when it has
# no room for a request, of which it has done nothing then.
_AWAY: Final = frozenset({502, 503, 504})
_NO_ROOM: Final = frozenset({429, 503})

_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Call:
    """A request; one that only reads, or has a key, may be repeated whatever has become of it."""

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads(self) -> bool:
        return self.method == "GET"

    @property
    def has_key(self) -> bool:
        """Whether the service knows it again: its answer is lost, and what it made is not."""
        return "Idempotency-Key" in self.options.get("headers", ())


class Pause(NamedTuple):
    """Seconds in which nothing is done."""

    seconds: float


Flow: TypeAlias = Generator[Call | Pause, Any, Value]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is repeated that found no room or no server, and the longest wait for it."""

    times: int = 4
    longest_s: float = 120.0

    def of(self, flow: Flow[Value]) -> Flow[Value]:
        """The same flow, each of its calls repeated where that costs nothing twice.

        Raises:
            Problem: the service refuses.
            httpx.TransportError: it cannot be reached.
        """
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    step = flow.send((yield step))
                    continue
                try:
                    response = yield from self._answer(step)
                except (Problem, httpx.TransportError) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as end:
            value: Value = end.value
            return value

    def _answer(self, call: Call) -> Flow[httpx.Response]:
        for attempt in range(self.times + 1):
            wait = _WAITS[min(attempt, len(_WAITS) - 1)]
            try:
                response: httpx.Response = yield call
            except httpx.TransportError as error:
                repeats = call.reads or call.has_key or isinstance(error, _BEFORE_SENDING)
                if attempt == self.times or not repeats:
                    raise
            else:
                if response.is_success:
                    return response
                problem = Problem.of(response)
                wait = wait if problem.retry_after is None else problem.retry_after
                may = response.status_code in (_AWAY if call.reads else _NO_ROOM)
                if not may or attempt == self.times or wait > self.longest_s:
                    raise problem
            yield Pause(wait)
        raise AssertionError  # the last attempt returns or raises


def document(call: Call, member: str | None = None) -> Flow[Any]:
    """The JSON that answers a call: an object with this member; None: a list.

    Raises:
        Problem: the server is something else.
    """
    response: httpx.Response = yield call
    try:
        found = response.json()
    except ValueError:
        raise stranger(response.url) from None
    fits = isinstance(found, list) if member is None else isinstance(found, dict)
    if not fits or (member is not None and member not in found):
        raise stranger(response.url)
    return found
