"""What each method does, without doing it: generators that ask for calls and pauses.

The same flow is run by the blocking client (`_sync.py`) and by the one for asyncio (`_async.py`).
A flow yields a `Call` and is sent the response, or is thrown the transport's error; it yields a
`Pause` and goes on after it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import httpx

from trustscale._problem import Problem, stranger
from trustscale._result import Result
from trustscale._upload import Pairs, Picture, Tar, archive_of, content, form

Value = TypeVar("Value")

CALIBRATIONS: Final = "/v1/admin/calibrations"
PENDING: Final = frozenset({"queued", "running"})

# Waits without a Retry-After, and between two looks at a job: they grow up to the last one.
_WAITS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_LOOKS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)

# What a proxy answers while the server behind it is restarted; what the service says when it has
# no room for a request, of which it has done nothing then.
_AWAY: Final = frozenset({502, 503, 504})
_NO_ROOM: Final = frozenset({429, 503})

_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Call:
    """A request; one that reads only may be repeated whatever has become of it."""

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads(self) -> bool:
        return self.method == "GET"


class Pause(NamedTuple):
    """Seconds in which nothing is done."""

    seconds: float


Flow: TypeAlias = Generator[Call | Pause, Any, Value]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is repeated that found no room or no server, and the longest wait for it."""

    times: int = 4
    longest_s: float = 120.0


def send(call: Call, retries: Retries) -> Flow[httpx.Response]:
    """The answer to a call, repeated where that costs nothing twice.

    Raises:
        Problem: the service refuses.
        httpx.TransportError: it cannot be reached.
    """
    for attempt in range(retries.times + 1):
        wait = _WAITS[min(attempt, len(_WAITS) - 1)]
        try:
            response: httpx.Response = yield call
        except httpx.TransportError as error:
            if attempt == retries.times or not (call.reads or isinstance(error, _BEFORE_SENDING)):
                raise
        else:
            if response.is_success:
                return response
            problem = Problem.of(response)
            wait = wait if problem.retry_after is None else problem.retry_after
            may = response.status_code in (_AWAY if call.reads else _NO_ROOM)
            if not may or attempt == retries.times or wait > retries.longest_s:
                raise problem
        yield Pause(wait)
    raise AssertionError  # the last attempt returns or raises


def document(call: Call, retries: Retries, member: str | None = None) -> Flow[Any]:
    """The JSON that answers a call: an object with this member; None: a list.

    Raises:
        Problem: as `send`, or the server is something else.
    """
    response = yield from send(call, retries)
    try:
        found = response.json()
    except ValueError:
        raise stranger(response.url) from None
    fits = isinstance(found, list) if member is None else isinstance(found, dict)
    if not fits or (member is not None and member not in found):
        raise stranger(response.url)
    return found


def rows(retries: Retries) -> Flow[list[dict[str, Any]]]:
    """All finished calibrations, the newest first."""
    found: list[dict[str, Any]] = yield from document(Call("GET", CALIBRATIONS), retries)
    return found


def _upscale_call(picture: Picture, options: Mapping[str, Any], headers: Mapping[str, str]) -> Call:
    # The key makes a repeated request the same one.
    sent = {**headers, "Idempotency-Key": secrets.token_hex(16)}
    files = {"image": ("image", content(picture))}
    return Call("POST", "/v1/upscale", {"files": files, "data": form(**options), "headers": sent})


def upscale(picture: Picture, options: Mapping[str, Any], retries: Retries) -> Flow[Result]:
    """One request, one answer."""
    call = _upscale_call(picture, options, {"Accept": "application/zip"})
    response = yield from send(call, retries)
    return Result.of_zip(response.content)


def submit(picture: Picture, options: Mapping[str, Any], retries: Retries) -> Flow[dict[str, Any]]:
    """The job of a request that nobody waits for."""
    call = _upscale_call(picture, options, {"Prefer": "respond-async"})
    found: dict[str, Any] = yield from document(call, retries, "id")
    return found


def calibrate(
    pairs: Pairs | Tar,
    config: Mapping[str, Any],
    retries: Retries,
    *,
    groups: Mapping[str, str] | None = None,
    scenes: Mapping[str, str] | None = None,
    on_sent: Callable[[int, int], None] | None = None,
) -> Flow[dict[str, Any]]:
    """The job that calibrates; the files are packed while they are sent."""
    fields = {"config": json.dumps(dict(config))}
    for name, given in (("groups", groups), ("scenes", scenes)):
        if given:
            fields[name] = json.dumps(dict(given))
    options = {
        "data": fields,
        "files": {"archive": ("pairs", archive_of(pairs, on_sent))},
        # A server says nothing while it spools and checks an upload of gigabytes.
        "timeout": httpx.Timeout(600.0, connect=10.0, read=None),
    }
    found: dict[str, Any] = yield from document(Call("POST", CALIBRATIONS, options), retries, "id")
    return found


def wait(
    job: dict[str, Any],
    retries: Retries,
    on_change: Callable[[dict[str, Any]], None],
) -> Flow[None]:
    """Look at a job until it has ended, or awaits labels; `on_change` is told of what is new."""
    looks = iter(_LOOKS)
    while job["state"] in PENDING:
        yield Pause(next(looks, _LOOKS[-1]))
        present = yield from document(Call("GET", f"/v1/jobs/{job['id']}"), retries, "state")
        if present != job:
            looks = iter(_LOOKS)
            job = present
            on_change(job)


def outcome(job: Mapping[str, Any], retries: Retries) -> Flow[Any]:
    """What a job has made: a `Result`, or a calibration as the service describes it.

    Raises:
        Problem: it failed or was cancelled.
    """
    if job["state"] == "awaiting_labels":
        return (yield from document(Call("GET", f"{CALIBRATIONS}/{job['id']}"), retries, "id"))
    if job["state"] != "succeeded":
        raise Problem(job["error"] or {"detail": f"The job {job['id']} was {job['state']}."})
    found = yield from document(Call("GET", job["result"]), retries, "id")
    if job["kind"] != "upscale":
        return found
    files = {}
    for part in ("image", "mask", "trust"):
        link = found["links"][part]
        response = yield from send(Call("GET", link), retries)
        files[link.rpartition("/")[2]] = response.content
    return Result(found, files)
