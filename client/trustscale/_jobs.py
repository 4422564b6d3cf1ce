"""Jobs of a service: watched until they have ended, then their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from trustscale._result import Result
from trustscale._session import Awaited, Blocking, Problem, Session, method, settled

CALIBRATIONS: Final = "/v1/admin/calibrations"
WHOLE: Final = "?detail=full"
"""Asks for all fields of a result."""

OnProgress = Callable[[int, int], None]
"""Called with (done, total)."""


_WATCH_RETRIES: Final = 8  # a server may be restarted for some 50 s
_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # between two looks at a job


async def fetched(session: Session, document: Mapping[str, Any]) -> Result:
    """Return the result of a document, with its files."""
    files, links = {}, document["links"]
    names = ["image", "mask", "trust"]
    if document.get("believed", {}).get("is_sent"):
        names.append("believed")
    if document.get("safe"):
        names += ["safe", "added"]
    if document.get("card"):
        names.append("card")
    for link in (links[name] for name in names if name in links):
        files[link.rpartition("/")[2]] = (await session.send("GET", link)).content
    return Result(document, files)


class _JobMethods:
    def __init__(self, session: Session, document: dict[str, Any]) -> None:
        self._session = session
        self.document = document

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.document.get('kind')}, {self.state}>"

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """The last known state: queued, running, succeeded, expired, failed, cancelled, etc."""
        return str(self.document["state"])

    @method
    async def wait(self, progress: OnProgress | None = None) -> Any:
        """Return what the job made, once it has ended: a `Result`, or the calibration.

        A semantic calibration without labels returns in the state awaiting_labels.

        Raises:
            Problem: the job failed or was cancelled, or its result is gone (expired).
        """
        await settled(cast("Any", self).watch(progress))
        ask, job = self._session.document, self.document
        if self.state == "awaiting_labels":
            return await ask("GET", f"{CALIBRATIONS}/{self.id}")
        if self.state != "succeeded":
            raise Problem(job["error"] or {"detail": f"The job {self.id} is {self.state}."})
        if job["kind"] == "upscale":
            return await fetched(self._session, await ask("GET", f"{job['result']}{WHOLE}"))
        return await ask("GET", job["result"])

    @method
    async def watch(self, progress: OnProgress | None = None) -> None:
        """Wait until the job has ended or awaits labels; look less often while nothing changes."""
        pauses = iter(_PAUSES_S)
        while self.state in {"queued", "running"}:
            await self._session.pause(next(pauses, _PAUSES_S[-1]))
            current = await self._asked("GET", _WATCH_RETRIES)
            if current == self.document:
                continue
            pauses = iter(_PAUSES_S)
            self.document = current
            if progress is not None and current["progress"]["total"]:
                progress(current["progress"]["done"], current["progress"]["total"])

    @method
    async def cancel(self) -> None:
        """Cancel the job."""
        self.document = await self._asked("DELETE")

    async def _asked(self, verb: str, retries: int = 0) -> dict[str, Any]:
        ask, path = self._session.document, f"/v1/jobs/{self.id}"
        document: dict[str, Any] = await ask(verb, path, "state", retries=retries)
        return document


class Job(_JobMethods, Blocking):
    """A job of a `Trustscale`; `document` is its last known state."""


class AsyncJob(_JobMethods, Awaited):
    """A job of an `AsyncTrustscale`; `document` is its last known state."""
