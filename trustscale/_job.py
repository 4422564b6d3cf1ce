"""Jobs of a service: looked at until they have ended, given up, asked for what they made."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, Final, Generic, ParamSpec, overload

from trustscale._calls import Call, Flow, Pause, document
from trustscale._method import Awaited, Blocking, Method, method
from trustscale._problem import Problem
from trustscale._result import Result

CALIBRATIONS: Final = "/v1/admin/calibrations"

Progress = Callable[[int, int], None]
"""Is told (done, of how many)."""

P = ParamSpec("P")

_PENDING: Final = frozenset({"queued", "running"})
_LOOKS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between two looks at a job


class _JobMethods:
    """A job of the service; `document` is what it said last."""

    document: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed, cancelled or awaiting_labels, when it was asked."""
        return str(self.document["state"])

    @method
    def wait(self, progress: Progress | None = None) -> Flow[Any]:
        """What it has made, once it has ended: a `Result`, or the calibration.

        A semantic calibration whose labels are missing comes back in the state awaiting_labels.

        Raises:
            Problem: it failed or was cancelled.
        """
        yield from _watch(self, progress)
        return (yield from _outcome(self.document))

    @method
    def watch(self, progress: Progress | None = None) -> Flow[None]:
        """Wait until it has ended, whichever way, or awaits labels."""
        return _watch(self, progress)

    @method
    def cancel(self) -> Flow[None]:
        """Give it up."""
        self.document = yield from document(Call("DELETE", f"/v1/jobs/{self.id}"), "state")


class Job(_JobMethods, Blocking):
    """A job of a `Trustscale`; `document` is what it said last."""

    def __init__(self, service: Blocking, document: dict[str, Any]) -> None:
        self.document = document
        self._run = service._run  # type: ignore[method-assign]  # noqa: SLF001 - our own


class AsyncJob(_JobMethods, Awaited):
    """A job of an `AsyncTrustscale`; `document` is what it said last."""

    def __init__(self, service: Awaited, document: dict[str, Any]) -> None:
        self.document = document
        self._run = service._run  # type: ignore[method-assign]  # noqa: SLF001 - our own


class begins(Method, Generic[P]):  # noqa: N801 - a decorator
    """The same, of a flow whose value is the document of a job."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[dict[str, Any]]]) -> None:
        @functools.wraps(flow)
        def job(service: Any, /, *args: P.args, **options: P.kwargs) -> Flow[Any]:
            return service._job((yield from flow(service, *args, **options)))  # noqa: SLF001

        super().__init__(job)

    @overload
    def __get__(self, owner: Blocking, kind: object = None) -> Callable[P, Job]: ...
    @overload
    def __get__(self, owner: Awaited, kind: object = None) -> Callable[P, Awaitable[AsyncJob]]: ...
    def __get__(self, owner: object, kind: object = None) -> Any:
        return self._of(owner)


def _watch(job: _JobMethods, progress: Progress | None) -> Flow[None]:
    """Look at a job until it has ended; less often as long as nothing changes."""
    looks = iter(_LOOKS)
    while job.state in _PENDING:
        yield Pause(next(looks, _LOOKS[-1]))
        present = yield from document(Call("GET", f"/v1/jobs/{job.id}"), "state")
        if present == job.document:
            continue
        looks = iter(_LOOKS)
        job.document = present
        if progress is not None and present["progress"]["total"]:
            progress(present["progress"]["done"], present["progress"]["total"])


def _outcome(job: Mapping[str, Any]) -> Flow[Any]:
    """What a job has made."""
    if job["state"] == "awaiting_labels":
        return (yield from document(Call("GET", f"{CALIBRATIONS}/{job['id']}"), "id"))
    if job["state"] != "succeeded":
        raise Problem(job["error"] or {"detail": f"The job {job['id']} was {job['state']}."})
    found = yield from document(Call("GET", job["result"]), "id")
    if job["kind"] != "upscale":
        return found
    files = {}
    for part in ("image", "mask", "trust"):
        link = found["links"][part]
        response = yield Call("GET", link)
        files[link.rpartition("/")[2]] = response.content
    return Result(found, files)
