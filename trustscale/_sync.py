"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import httpx

from trustscale import _flows as flows
from trustscale._flows import CALIBRATIONS, Call, Flow, Pause, Retries, Value
from trustscale._result import Result
from trustscale._upload import Pairs, Picture, Tar

TIMEOUT = httpx.Timeout(600.0, connect=10.0)  # an answer may take many generations
Progress = Callable[[int, int], None]
"""Is told (done, of how many)."""


class Trustscale:
    """A Trustscale service.

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
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT, transport=transport
        )
        self._retries = Retries(retries)
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upscale(self, image: Picture, **options: Any) -> Result:
        """Upscale an image and mark where it can be trusted.

        Args:
            image: a file, its content, a PIL image, or an array, uint8 [H, W, 3].
            options: the form's fields: `alpha`, `seed`, `upscaler`, `group`, `background`, …
        """
        return self._run(flows.upscale(image, options, self._retries))

    def submit(self, image: Picture, **options: Any) -> Job:
        """As `upscale`, as a job; it goes on when this program ends."""
        return Job(self, self._run(flows.submit(image, options, self._retries)))

    def calibrate(
        self,
        pairs: Pairs | Tar,
        *,
        groups: Mapping[str, str] | None = None,
        scenes: Mapping[str, str] | None = None,
        on_sent: Progress | None = None,
        **config: Any,
    ) -> Job:
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
        return Job(self, self._run(flow))

    def job(self, job: str) -> Job:
        """The job of an id."""
        flow = flows.document(Call("GET", f"/v1/jobs/{job}"), self._retries, "state")
        return Job(self, self._run(flow))

    def calibrations(self) -> list[dict[str, Any]]:
        """All finished calibrations, the newest first (admin)."""
        return self._run(flows.rows(self._retries))

    def calibration(self, calibration: str, group: str | None = None) -> dict[str, Any]:
        """A calibration, or the job that makes it (admin)."""
        params = {} if group is None else {"group": group}
        return self._object("GET", f"/{calibration}", params=params)

    def activate(self, calibration: str, **options: Any) -> dict[str, Any]:
        """Serve from it; the answer names the one that is replaced (admin)."""
        sent = {"json": options} if options else {}
        return self._object("POST", f"/{calibration}/activate", member="previous", **sent)

    def derive(self, calibration: str, **changes: Any) -> dict[str, Any]:
        """The same pairs under another guarantee; nothing is generated (admin)."""
        return self._object("POST", f"/{calibration}/derive", json=changes)

    def export(self, calibration: str) -> bytes:
        """The one-file form of a calibration (admin)."""
        call = Call("GET", f"{CALIBRATIONS}/{calibration}/export")
        return self._run(flows.send(call, self._retries)).content

    def import_file(
        self, data: bytes, *, activate: bool = False, force: bool = False
    ) -> dict[str, Any]:
        """Store a calibration file (admin)."""
        return self._object(
            "POST", "/import", content=data, params={"activate": activate, "force": force}
        )

    def _object(self, method: str, path: str, member: str = "id", **options: Any) -> dict[str, Any]:
        call = Call(method, f"{CALIBRATIONS}{path}", options)
        found: dict[str, Any] = self._run(flows.document(call, self._retries, member))
        return found

    def _run(self, flow: Flow[Value]) -> Value:
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
                self._sleep(step.seconds)
                continue
            try:
                answer = self._http.request(step.method, step.path, **step.options)
            except httpx.TransportError as failure:
                error = failure


class Job:
    """A job of the service; `document` is what it said last."""

    def __init__(self, service: Trustscale, document: dict[str, Any]) -> None:
        self._service = service
        self.document = document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed, cancelled or awaiting_labels, when it was asked."""
        return str(self.document["state"])

    def wait(self, progress: Progress | None = None) -> Any:
        """What it has made, once it has ended: a `Result`, or the calibration.

        A semantic calibration whose labels are missing comes back in the state awaiting_labels.

        Raises:
            Problem: it failed or was cancelled.
        """
        self.watch(progress)
        return self._service._run(flows.outcome(self.document, self._service._retries))  # noqa: SLF001

    def watch(self, progress: Progress | None = None) -> None:
        """Wait until it has ended, whichever way, or awaits labels."""

        def on_change(document: dict[str, Any]) -> None:
            self.document = document
            if progress is not None and document["progress"]["total"]:
                progress(document["progress"]["done"], document["progress"]["total"])

        self._service._run(flows.wait(self.document, self._service._retries, on_change))  # noqa: SLF001

    def cancel(self) -> None:
        """Give it up."""
        call = Call("DELETE", f"/v1/jobs/{self.id}")
        retries = self._service._retries  # noqa: SLF001
        self.document = self._service._run(flows.document(call, retries, "state"))  # noqa: SLF001
