"""The clients: blocking for `Trustscale`, awaited for `AsyncTrustscale`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, Unpack

import httpx

from trustscale._fields import ActivateOptions, DeriveOptions, SubmitOptions, UpscaleOptions
from trustscale._jobs import CALIBRATIONS, WHOLE, AsyncJob, Job, fetched
from trustscale._options import CalibrateOptions, ExtendOptions, PairOptions, checked
from trustscale._requests import RequestMethods, T, pairs_form
from trustscale._result import Result
from trustscale._session import Awaited, Blocking, Problem, Session, method
from trustscale._upload import AnyPairs, AnyPicture, Tar, content, form

# A server gives up 600 s after a request's turn.
_TIMEOUT = httpx.Timeout(900.0, connect=10.0)


class _Service(RequestMethods[T]):
    """The methods of a service.

    Every method raises `Problem` if the service refuses, `httpx.TransportError` if it cannot be
    reached.
    """

    @method
    async def upscale(
        self,
        /,
        image: AnyPicture,
        *,
        enlarged: AnyPicture | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[UpscaleOptions],
    ) -> Result:
        """Upscale an image and mark where it can be trusted.

        Args:
            image: a file, its content, a PIL image, or an array, uint8 [H, W, 3].
            enlarged: what somebody made of it, for an upscaler of the kind supplied.
            idempotency_key: repetitions with it are not charged; default: a fresh one.
            options: the form's fields: `alpha`, `seed`, `upscaler`, `group`, `background`, …
        """
        fields = checked(UpscaleOptions, options)
        sent = await self._form(image, enlarged, fields, idempotency_key, Accept="application/zip")
        if "upload" in sent["data"]:  # large files come from the object store, too
            sent["headers"]["Accept"] = "application/json"
            document = await self._session.document("POST", f"/v1/upscale{WHOLE}", **sent)
            return await fetched(self._session, document)
        response = await self._session.send("POST", "/v1/upscale", **sent)
        if response.headers.get("Content-Type") != "application/zip":
            raise Problem.from_stranger(response)
        return Result.from_zip(response.content)

    @method
    async def batch(self, images: Sequence[AnyPicture]) -> str:
        """Return the id of a batch of pictures that belong together, for the option `batch`.

        Masks get smaller where pictures like these, 6 to 64, lose more; the promise stays.
        """
        files = [("images", ("image", content(image))) for image in images]
        document = await self._session.document("POST", "/v1/batches", files=files)
        return str(document["id"])

    @method
    async def submit(
        self,
        /,
        image: AnyPicture,
        *,
        enlarged: AnyPicture | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> T:
        """Upscale as a job, which continues when this program ends; arguments as for `upscale`."""
        fields = checked(SubmitOptions, options)
        sent = await self._form(image, enlarged, fields, idempotency_key, Prefer="respond-async")
        return await self._started_job("POST", "/v1/upscale", **sent)

    @method
    async def calibrate(self, /, pairs: AnyPairs | Tar, **options: Unpack[CalibrateOptions]) -> T:
        """Calibrate (admin); files are packed while they are sent.

        Args:
            pairs: a folder or archive (`y/NAME.png`, perhaps `x/NAME.png`), truths Y, or (X, Y).
            options: which of them belong together (`PairOptions`), and fields of the configuration:
                `samples`, `fidelity`, `activate`, …
        """
        chosen = checked(CalibrateOptions, options)
        return await self._job_from_pairs(
            "", pairs, chosen, {"config": json.dumps(_configuration(chosen))}
        )

    @method
    async def plan(
        self,
        /,
        pairs: AnyPairs | Tar,
        *,
        extends: str | None = None,
        **options: Unpack[CalibrateOptions],
    ) -> dict[str, Any]:
        """Return what a calibration would take (admin): calls, price, seconds; nothing is made.

        `extends` names the calibration that the pairs would be added to. Other arguments are as for
        `calibrate`.
        """
        chosen = checked(CalibrateOptions, options)
        fields = {
            "config": None if extends else json.dumps(_configuration(chosen)),
            "dry_run": True,
        }
        path = "" if extends is None else f"/{extends}/pairs"
        with pairs_form(pairs, chosen, fields) as sent:
            plan: dict[str, Any] = await self._session.document(
                "POST", f"{CALIBRATIONS}{path}", "calls", **sent
            )
        return plan

    @method
    async def extend(
        self, calibration: str, pairs: AnyPairs | Tar, **options: Unpack[ExtendOptions]
    ) -> T:
        """Calibrate from an old calibration's pairs and these (admin); arguments as `calibrate`."""
        chosen = checked(ExtendOptions, options)
        return await self._job_from_pairs(
            f"/{calibration}/pairs", pairs, chosen, _configuration(chosen)
        )

    @method
    async def job(self, job: str) -> T:
        """Return a job by its id."""
        return await self._started_job("GET", f"/v1/jobs/{job}")

    @method
    async def upscalers(self, *, brief: bool = False) -> list[dict[str, Any]]:
        """Return the upscalers with their active calibrations; `brief`: only the ids of these."""
        return await self._list("/v1/upscalers", params={"brief": True} if brief else {})

    @method
    async def probe(
        self,
        address: str,
        *,
        call: bool = False,
        token: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the entry of an upscaler that is not configured yet, from its URL (admin).

        call: try it by one call, which may cost money. token: for this request only. settings: of
        the entry; they override what is found.
        """
        sent = {"address": address, "call": call, "token": token, "settings": dict(settings or {})}
        probed: dict[str, Any] = await self._session.document(
            "POST", "/v1/admin/upscalers/probe", "toml", json=sent
        )
        return probed

    @method
    async def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs that have not ended, the newest first (admin)."""
        return await self._list("/v1/admin/jobs")

    @method
    async def calibrations(self) -> list[dict[str, Any]]:
        """Return all finished calibrations, the newest first (admin)."""
        return await self._list(CALIBRATIONS)

    @method
    async def calibration(self, calibration: str, group: str | None = None) -> dict[str, Any]:
        """Return a calibration, or the job that makes it (admin)."""
        return await self._calibration_document("GET", f"/{calibration}", params=form(group=group))

    @method
    async def activate(
        self, /, calibration: str, **options: Unpack[ActivateOptions]
    ) -> dict[str, Any]:
        """Serve from a calibration; the answer names the one it replaces (admin)."""
        sent = {"json": checked(ActivateOptions, options)} if options else {}
        return await self._calibration_document(
            "POST", f"/{calibration}/activate", "previous", **sent
        )

    @method
    async def derive(self, /, calibration: str, **changes: Unpack[DeriveOptions]) -> dict[str, Any]:
        """Calibrate the same pairs under another guarantee, without generating (admin)."""
        return await self._calibration_document(
            "POST", f"/{calibration}/derive", json=checked(DeriveOptions, changes)
        )

    @method
    async def delete(self, calibration: str) -> None:
        """Remove a calibration that is not active (admin)."""
        await self._session.send("DELETE", f"{CALIBRATIONS}/{calibration}")

    @method
    async def export(self, calibration: str) -> bytes:
        """Return a calibration as one file (admin)."""
        return (await self._session.send("GET", f"{CALIBRATIONS}/{calibration}/export")).content

    @method
    async def import_file(
        self, data: bytes, *, activate: bool = False, force: bool = False
    ) -> dict[str, Any]:
        """Store a calibration file (admin)."""
        params = {"activate": activate, "force": force}
        return await self._calibration_document("POST", "/import", content=data, params=params)


def _configuration(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not about pairs."""
    return {
        name: value for name, value in options.items() if name not in PairOptions.__annotations__
    }


class Trustscale(_Service[Job], Blocking):
    """A Trustscale service.

    Args:
        url: such as `https://upscale.example.org`.
        key: of a client or an admin; None where the service is open.
        retries: how often a call is repeated that found no room (after `Retry-After`) or no server.
        transport: None: over the network.
        sleep: waits for a number of seconds.
    """

    _job = Job

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
        self._session = Session(self._http, sleep, retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncTrustscale(_Service[AsyncJob], Awaited):
    """A Trustscale service, for asyncio."""

    _job = AsyncJob

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
        self._session = Session(self._http, sleep, retries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _connection(url: str, key: str | None) -> dict[str, Any]:
    def with_key(request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {key}"
        return request

    # Results may come from an object store; httpx sends the key to the first origin only.
    options = {"follow_redirects": True, "timeout": _TIMEOUT}
    return {"base_url": url.rstrip("/"), "auth": with_key if key else None, **options}
