"""By what `trustscale upscale` gets its answers: this process, or a server. Both answer alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from app.cli.local import local
from app.cli.remote import PATIENT, connection, refusals
from app.errors import NotFound
from app.serving.answer import MASK, png_overlay
from app.serving.auto import AUTO
from app.serving.options import UpscaleRequest
from app.serving.service import UpscaleService
from trustscale import AsyncTrustscale, Problem

OVERLAY: Final = "overlay.png"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """The document of an answer without its links, and its files by name: picture first."""

    document: dict[str, Any]
    files: Mapping[str, bytes]


class _Here:
    """Answers in this process; `at_once` is how many requests it is best given at the same time."""

    def __init__(self, service: UpscaleService) -> None:
        self.at_once = service.slots.running
        # The files are the result here: no store keeps it.
        self._service = replace(service, results=None)

    async def serves(self, request: UpscaleRequest) -> dict[str, str | None]:
        """The upscaler that a request means, and the calibrations that it is served from, in order.

        Raises:
            NotFound, NoCalibration.
        """
        upscalers = self._service.candidates(request.upscaler)
        name = upscalers[0].name if len(upscalers) == 1 else AUTO
        if request.mask == "none":
            return {"upscaler": name, "calibration": None}
        active = [await self._service.calibrations.active_ids(one.name) for one in upscalers]
        if name != AUTO and not any(active):
            await self._service.calibrations.order(name)  # which says what to do
        return {"upscaler": name, "calibration": " ".join(one for ids in active for one in ids)}

    async def answer(
        self, data: bytes, request: UpscaleRequest, key: str, on_progress: Progress
    ) -> Answer:
        """Upscale a file. The same key stands for the same file and request."""
        del key
        prepared = await self._service.prepare(data, request, patient=True, as_job=True)
        made = await self._service.run(
            prepared, patient=True, on_progress=lambda *step: on_progress(*step[:2])
        )
        document = made.picture.model_dump(mode="json", exclude={"links"})
        return Answer(document, _complete(made.files))


class _There:
    """Answers by a server, in the same way."""

    at_once = 4

    def __init__(self, service: AsyncTrustscale, server: str) -> None:
        self._service = service
        self._server = server

    async def serves(self, request: UpscaleRequest) -> dict[str, str | None]:
        with refusals(self._server):
            rows = await self._service.upscalers()
        meant = [row for row in rows if row["name"] == request.upscaler]
        if request.upscaler in {None, AUTO}:
            meant = [row for row in rows if row["default"]]
        if meant:
            active = " ".join(one["id"] for row in meant for one in row["calibrations"])
            return {
                "upscaler": meant[0]["name"] if len(meant) == 1 else AUTO,
                "calibration": (active or None) if request.mask == "trust" else None,
            }
        known = ", ".join(row["name"] for row in rows)
        raise NotFound(f"{self._server} has no upscaler {request.upscaler!r}; it has {known}.")

    async def answer(
        self, data: bytes, request: UpscaleRequest, key: str, on_progress: Progress
    ) -> Answer:
        with refusals(self._server):
            try:
                result = await self._service.upscale(data, idempotency_key=key, **request.chosen())
            except Problem as problem:
                # The server has made nothing of it, and says that it would do so as a job.
                if problem.members.get("prefer") != "respond-async":
                    raise
                job = await self._service.submit(
                    data, idempotency_key=f"{key}-job", **request.chosen()
                )
                result = await job.wait(on_progress)
        document = {name: value for name, value in result.document.items() if name != "links"}
        return Answer(document, _complete(result.files))


Engine: TypeAlias = _Here | _There


@asynccontextmanager
async def engine(
    upscaler: str | None, server: str | None, key_env: str, *, many: bool
) -> AsyncIterator[Engine]:
    """This process, or a server; `many` says that more than one image is upscaled."""
    if server is None:
        async with local(upscaler, many=many) as session:
            yield _Here(session.service)
    else:
        async with AsyncTrustscale(
            *connection(server, key_env, needs_key=False), retries=PATIENT
        ) as service:
            yield _There(service, server)


def _complete(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with the overlay, which carries the facts of the mask; where there is one."""
    if MASK not in files:
        return dict(files)
    picture = next(data for name, data in files.items() if name.startswith("image."))
    return {**files, OVERLAY: png_overlay(picture, files[MASK])}
