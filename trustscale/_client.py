"""The clients: one set of methods, that of `Trustscale` blocking and of `AsyncTrustscale` awaited.

A method is written once, as a flow (`_calls.py`). `@method` makes it one that runs its flow: of a
blocking object it returns the value, of the other an awaitable of it (`_method.py`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import httpx

from trustscale._calls import Call, Flow, Pause, Retries, Value, document
from trustscale._job import CALIBRATIONS, AsyncJob, Job, Progress, begins
from trustscale._method import Awaited, Blocking, method
from trustscale._result import Result
from trustscale._upload import Pairs, Picture, Tar, archive_of, content, form

_TIMEOUT = httpx.Timeout(600.0, connect=10.0)  # an answer may take many generations
# A server says nothing while it spools and checks an upload of gigabytes.
_UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=10.0, read=None)


class _Service:
    """The methods of a service.

    Every method raises `Problem` for what the service refuses, and `httpx.TransportError` if it
    cannot be reached.
    """

    @method
    def upscale(
        self, /, image: Picture, *, idempotency_key: str | None = None, **options: Any
    ) -> Flow[Result]:
        """Upscale an image and mark where it can be trusted.

        Args:
            image: a file, its content, a PIL image, or an array, uint8 [H, W, 3].
            idempotency_key: whoever repeats a request under its key is not charged again; default:
                a fresh one.
            options: the form's fields: `alpha`, `seed`, `upscaler`, `group`, `background`, …
        """
        accept = {"Accept": "application/zip"}
        response = yield _upscale_call(image, options, idempotency_key, accept)
        return Result.of_zip(response.content)

    @begins
    def submit(
        self, /, image: Picture, *, idempotency_key: str | None = None, **options: Any
    ) -> Flow[dict[str, Any]]:
        """As `upscale`, as a job; it goes on when this program ends."""
        prefer = {"Prefer": "respond-async"}
        return document(_upscale_call(image, options, idempotency_key, prefer), "id")

    @begins
    def calibrate(
        self,
        /,
        pairs: Pairs | Tar,
        *,
        groups: Mapping[str, str] | None = None,
        scenes: Mapping[str, str] | None = None,
        on_sent: Progress | None = None,
        **config: Any,
    ) -> Flow[dict[str, Any]]:
        """Calibrate (admin); the files are packed while they are sent.

        Args:
            pairs: a folder or archive (`y/NAME.png`, perhaps `x/NAME.png`), truths Y, or (X, Y).
            groups: the group of each pair, by name.
            scenes: the scene of each pair, by name; pairs of one scene count once.
            on_sent: is told (bytes sent, all bytes).
            config: the fields of the configuration: `samples`, `fidelity`, `activate`, …
        """
        fields = {"config": json.dumps(config)}
        return document(_pairs_call("", pairs, fields, groups, scenes, on_sent), "id")

    @begins
    def extend(
        self,
        calibration: str,
        pairs: Pairs | Tar,
        *,
        groups: Mapping[str, str] | None = None,
        scenes: Mapping[str, str] | None = None,
        on_sent: Progress | None = None,
        activate: bool = False,
        force: bool = False,
    ) -> Flow[dict[str, Any]]:
        """A new calibration of the pairs of an old one and these; `calibrate` says the rest."""
        fields = {"activate": str(activate), "force": str(force)}
        path = f"/{calibration}/pairs"
        return document(_pairs_call(path, pairs, fields, groups, scenes, on_sent), "id")

    @begins
    def job(self, job: str) -> Flow[dict[str, Any]]:
        """The job of an id."""
        return document(Call("GET", f"/v1/jobs/{job}"), "state")

    @method
    def upscalers(self) -> Flow[list[dict[str, Any]]]:
        """What images can be upscaled by, with the active calibrations."""
        return document(Call("GET", "/v1/upscalers"))

    @method
    def jobs(self) -> Flow[list[dict[str, Any]]]:
        """The jobs that have not ended, the newest first (admin)."""
        return document(Call("GET", "/v1/admin/jobs"))

    @method
    def calibrations(self) -> Flow[list[dict[str, Any]]]:
        """All finished calibrations, the newest first (admin)."""
        return document(Call("GET", CALIBRATIONS))

    @method
    def calibration(self, calibration: str, group: str | None = None) -> Flow[dict[str, Any]]:
        """A calibration, or the job that makes it (admin)."""
        return _object("GET", f"/{calibration}", params=form(group=group))

    @method
    def activate(self, /, calibration: str, **options: Any) -> Flow[dict[str, Any]]:
        """Serve from it; the answer names the one that is replaced (admin)."""
        sent = {"json": options} if options else {}
        return _object("POST", f"/{calibration}/activate", "previous", **sent)

    @method
    def derive(self, /, calibration: str, **changes: Any) -> Flow[dict[str, Any]]:
        """The same pairs under another guarantee; nothing is generated (admin)."""
        return _object("POST", f"/{calibration}/derive", json=changes)

    @method
    def backtest(
        self, calibration: str, splits: int = 100, group: str | None = None
    ) -> Flow[dict[str, Any]]:
        """What to expect of it, over random halvings of its pairs (admin)."""
        params = form(splits=splits, group=group)
        return _object("GET", f"/{calibration}/backtest", "rows", params=params)

    @method
    def delete(self, calibration: str) -> Flow[None]:
        """Remove a calibration that is not active (admin)."""
        yield Call("DELETE", f"{CALIBRATIONS}/{calibration}")

    @method
    def export(self, calibration: str) -> Flow[bytes]:
        """The one-file form of a calibration (admin)."""
        response: httpx.Response = yield Call("GET", f"{CALIBRATIONS}/{calibration}/export")
        return response.content

    @method
    def import_file(
        self, data: bytes, *, activate: bool = False, force: bool = False
    ) -> Flow[dict[str, Any]]:
        """Store a calibration file (admin)."""
        params = {"activate": activate, "force": force}
        return _object("POST", "/import", content=data, params=params)

    @method
    def audit(self, limit: int = 100, before: int | None = None) -> Flow[list[dict[str, Any]]]:
        """What admins did, the newest first (admin)."""
        params = form(limit=limit, before=before)
        return document(Call("GET", "/v1/admin/audit", {"params": params}))


class Trustscale(_Service, Blocking):
    """A Trustscale service.

    Args:
        url: where it is, such as `https://upscale.example.org`.
        key: of a client or an admin; None where the service is open.
        retries: how often a call is repeated that found no room (after what `Retry-After` says)
            or no server.
        transport: how requests are made; None: over the network.
        sleep: waits for so many seconds.
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
        self._http = httpx.Client(transport=transport, **_connection(url, key))
        self._retries = Retries(retries)
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _run(self, flow: Flow[Value]) -> Value:
        flow = self._retries.of(flow)
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    self._sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    answer = self._http.request(step.method, step.path, **step.options)
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: Value = end.value
            return value

    def _job(self, found: dict[str, Any]) -> Job:
        return Job(self, found)


class AsyncTrustscale(_Service, Awaited):
    """The same for asyncio."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = httpx.AsyncClient(transport=transport, **_connection(url, key))
        self._retries = Retries(retries)
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _run(self, flow: Flow[Value]) -> Value:
        flow = self._retries.of(flow)
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    answer = await self._http.request(step.method, step.path, **step.options)
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: Value = end.value
            return value

    def _job(self, found: dict[str, Any]) -> AsyncJob:
        return AsyncJob(self, found)


def _connection(url: str, key: str | None) -> dict[str, Any]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {"base_url": url.rstrip("/"), "headers": headers, "timeout": _TIMEOUT}


def _upscale_call(
    picture: Picture, options: Mapping[str, Any], key: str | None, headers: Mapping[str, str]
) -> Call:
    sent = {**headers, "Idempotency-Key": key or secrets.token_hex(16)}
    files = {"image": ("image", content(picture))}
    return Call("POST", "/v1/upscale", {"files": files, "data": form(**options), "headers": sent})


def _pairs_call(
    path: str,
    pairs: Pairs | Tar,
    fields: dict[str, str],
    groups: Mapping[str, str] | None,
    scenes: Mapping[str, str] | None,
    on_sent: Progress | None,
) -> Call:
    named = {"groups": groups, "scenes": scenes}
    given = {name: json.dumps(dict(names)) for name, names in named.items() if names}
    options = {
        "data": {**fields, **given},
        "files": {"archive": ("pairs", archive_of(pairs, on_sent))},
        "headers": {"Idempotency-Key": secrets.token_hex(16)},
        "timeout": _UPLOAD_TIMEOUT,
    }
    return Call("POST", f"{CALIBRATIONS}{path}", options)


def _object(verb: str, path: str, member: str = "id", **options: Any) -> Flow[dict[str, Any]]:
    return document(Call(verb, f"{CALIBRATIONS}{path}", options), member)
