"""The client for asyncio: every method of `_sync.py`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import httpx

from trustscale import _flows as flows
from trustscale._flows import CALIBRATIONS, Call, Flow, Pause, Retries, Value
from trustscale._result import Result
from trustscale._sync import TIMEOUT, Progress
from trustscale._upload import Pairs, Picture, Tar


class AsyncTrustscale:
    """A Trustscale service, for asyncio.

    Args:
        url: where it is, such as `https://upscale.example.org`.
        key: of a client or an admin; None where the service is open.
        retries: how often a call is repeated that found no room (after what `Retry-After` says)
            or no server.
        transport: how requests are made; None: over the network.
        sleep: waits for so many seconds.

    Every method raises `Problem` for what the service refuses, and `httpx.TransportError` if it
    cannot be reached.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT, transport=transport
        )
        self._retries = Retries(retries)
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def upscale(self, image: Picture, **options: Any) -> Result:
        """Upscale an image and mark where it can be trusted.

        Args:
            image: a file, its content, a PIL image, or an array, uint8 [H, W, 3].
            options: the form's fields: `alpha`, `seed`, `upscaler`, `group`, `background`, …
        """
        return await self._run(flows.upscale(image, options, self._retries))

    async def submit(self, image: Picture, **options: Any) -> AsyncJob:
        """As `upscale`, as a job; it goes on when this program ends."""
        return AsyncJob(self, await self._run(flows.submit(image, options, self._retries)))

    async def calibrate(
        self,
        pairs: Pairs | Tar,
        *,
        groups: Mapping[str, str] | None = None,
        scenes: Mapping[str, str] | None = None,
        on_sent: Progress | None = None,
        **config: Any,
    ) -> AsyncJob:
        """Calibrate (admin).

        Args:
            pairs: a folder or archive (`y/NAME.png`, perhaps `x/NAME.png`), truths Y, or (X, Y).
            groups: the group of each pair, by name.
            scenes: the scene of each pair, by name; pairs of one scene count once.
            on_sent: is told (bytes sent, all bytes).
            config: the fields of the configuration: `samples`, `fidelity`, `activate`, …
        """
        flow = flows.calibrate(
            pairs, config, self._retries, groups=groups, scenes=scenes, on_sent=on_sent
        )
        return AsyncJob(self, await self._run(flow))

    async def job(self, job: str) -> AsyncJob:
        """The job of an id."""
        flow = flows.document(Call("GET", f"/v1/jobs/{job}"), self._retries, "state")
        return AsyncJob(self, await self._run(flow))

    async def calibrations(self) -> list[dict[str, Any]]:
        """All finished calibrations, the newest first (admin)."""
        return await self._run(flows.rows(self._retries))

    async def calibration(self, calibration: str, group: str | None = None) -> dict[str, Any]:
        """A calibration, or the job that makes it (admin)."""
        params = {} if group is None else {"group": group}
        return await self._object("GET", f"/{calibration}", params=params)

    async def activate(self, calibration: str, **options: Any) -> dict[str, Any]:
        """Serve from it; the answer names the one that is replaced (admin)."""
        sent = {"json": options} if options else {}
        return await self._object("POST", f"/{calibration}/activate", member="previous", **sent)

    async def derive(self, calibration: str, **changes: Any) -> dict[str, Any]:
        """The same pairs under another guarantee; nothing is generated (admin)."""
        return await self._object("POST", f"/{calibration}/derive", json=changes)

    async def export(self, calibration: str) -> bytes:
        """The one-file form of a calibration (admin)."""
        call = Call("GET", f"{CALIBRATIONS}/{calibration}/export")
        return (await self._run(flows.send(call, self._retries))).content

    async def import_file(
        self, data: bytes, *, activate: bool = False, force: bool = False
    ) -> dict[str, Any]:
        """Store a calibration file (admin)."""
        return await self._object(
            "POST", "/import", content=data, params={"activate": activate, "force": force}
        )

    async def _object(
        self, method: str, path: str, member: str = "id", **options: Any
    ) -> dict[str, Any]:
        call = Call(method, f"{CALIBRATIONS}{path}", options)
        found: dict[str, Any] = await self._run(flows.document(call, self._retries, member))
        return found

    async def _run(self, flow: Flow[Value]) -> Value:
        answer: httpx.Response | None = None
        error: Exception | None = None
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as end:
                value: Value = end.value
                return value
            answer = error = None
            if isinstance(step, Pause):
                await self._sleep(step.seconds)
                continue
            try:
                answer = await self._http.request(step.method, step.path, **step.options)
            except httpx.TransportError as failure:
                error = failure


class AsyncJob:
    """A job of the service; `document` is what it said last."""

    def __init__(self, service: AsyncTrustscale, document: dict[str, Any]) -> None:
        self._service = service
        self.document = document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed, cancelled or awaiting_labels, when it was asked."""
        return str(self.document["state"])

    async def wait(self, progress: Progress | None = None) -> Any:
        """What it has made, once it has ended: a `Result`, or the calibration.

        A semantic calibration whose labels are missing comes back in the state awaiting_labels.

        Raises:
            Problem: it failed or was cancelled.
        """
        await self.watch(progress)
        return await self._service._run(flows.outcome(self.document, self._service._retries))  # noqa: SLF001

    async def watch(self, progress: Progress | None = None) -> None:
        """Wait until it has ended, whichever way, or awaits labels."""

        def on_change(document: dict[str, Any]) -> None:
            self.document = document
            if progress is not None and document["progress"]["total"]:
                progress(document["progress"]["done"], document["progress"]["total"])

        await self._service._run(flows.wait(self.document, self._service._retries, on_change))  # noqa: SLF001

    async def cancel(self) -> None:
        """Give it up."""
        call = Call("DELETE", f"/v1/jobs/{self.id}")
        retries = self._service._retries  # noqa: SLF001
        self.document = await self._service._run(flows.document(call, retries, "state"))  # noqa: SLF001
