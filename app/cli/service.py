"""Whom a command asks: the stores that the settings name, or with `--server` a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from app.api.documents import activation_of, detail
from app.api.jobs import JobOut, pending_jobs
from app.assembly import Parts
from app.calibration import file
from app.calibration.guarantee import guarantee_of
from app.calibration.insight import expected
from app.calibration.record import Calibration
from app.cli.local import local
from app.cli.remote import connection, refusals
from app.jobs.queue import JobQueue
from trustscale import AsyncTrustscale

Answer = TypeVar("Answer")

Rows: TypeAlias = list[dict[str, Any]]


class Here:
    """The methods of `trustscale.AsyncTrustscale`, on the stores that the settings name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._calibrations = parts.calibrations
        self._stores = parts.stores

    async def calibrations(self) -> Rows:
        activations = (await self._stores.calibrations.active()).values()
        active = {one for activation in activations for one in activation.calibrations}
        heads = await self._stores.calibrations.heads()
        return [{**head.model_dump(mode="json"), "active": head.id in active} for head in heads]

    async def calibration(self, calibration: str, group: str | None = None) -> dict[str, Any]:
        return await described(self._parts, await self._calibrations.get(calibration), group)

    async def derive(
        self,
        calibration: str,
        *,
        guarantee: dict[str, Any] | None = None,
        fidelity: dict[str, float] | None = None,
        name: str | None = None,
        activate: bool = False,
        force: bool = False,
    ) -> dict[str, Any]:
        parent = await self._calibrations.get(calibration)
        if activate:
            await self._check_live(parent)
        made = await self._parts.admin.derive(
            parent,
            guarantee_of(guarantee) if guarantee else None,
            bound=fidelity["bound"] if fidelity else None,
            created_by="local",
            name=name,
            to_activate=activate,
            force=force,
        )
        activated = False
        try:
            if activate:
                await self._calibrations.activate(made, force=force)
                activated = True
        finally:  # it is stored, whatever has become of its activation
            facts = {"parent": parent.id, "calibration": made.id, "activate": activated}
            await audit(self._parts, "derive", **facts)
        return await described(self._parts, made)

    async def activate(
        self, calibration: str, *, force: bool = False, only: bool = False
    ) -> dict[str, Any]:
        found = await self._calibrations.get(calibration)
        await self._check_live(found)
        before = await self._calibrations.active_ids(found.manifest.upscaler)
        done, changes = await self._calibrations.activate(found, force=force, only=only)
        facts = {"calibration": done.calibration, "previous": done.previous, "only": only}
        await audit(self._parts, "activate", **facts)
        document = await activation_of(self._parts, done, changes, before)
        return document.model_dump(mode="json")

    async def backtest(
        self, calibration: str, splits: int = 100, group: str | None = None
    ) -> dict[str, Any]:
        found = (await self._calibrations.get(calibration)).of_group(group)
        return expected(found, splits)

    async def delete(self, calibration: str) -> None:
        await self._parts.admin.delete(calibration)
        await audit(self._parts, "delete", calibration=calibration)

    async def export(self, calibration: str) -> bytes:
        return file.dump(await self._calibrations.get(calibration))

    async def import_file(
        self, data: bytes, *, activate: bool = False, force: bool = False
    ) -> dict[str, Any]:
        made = await self._parts.admin.import_file(data, activate=activate, force=force)
        await audit(self._parts, "import", calibration=made.id, activate=activate)
        return {"id": made.id}

    async def audit(self, limit: int = 100, before: int | None = None) -> Rows:
        entries = await self._stores.audit.entries(limit=limit, before=before)
        return [entry.model_dump(mode="json") for entry in entries]

    async def jobs(self) -> Rows:
        pending = await pending_jobs(self._stores.jobs)
        return [JobOut.of(job).model_dump(mode="json") for job in pending]

    async def job(self, job: str) -> _Job:
        return _Job(self._parts.queue, job)

    async def _check_live(self, calibration: Calibration) -> None:
        """Raises CalibrationMismatch. One of a server that shares the store is checked there."""
        if calibration.manifest.upscaler in self._parts.upscalers:
            await self._parts.admin.check(calibration)


class _Job:
    """A job that is looked at once it is given up."""

    document: dict[str, Any]

    def __init__(self, queue: JobQueue, job: str) -> None:
        self._queue = queue
        self._id = job

    async def cancel(self) -> None:
        self.document = JobOut.of(await self._queue.cancel(self._id)).model_dump(mode="json")


def ask(
    server: str | None,
    key_env: str,
    question: Callable[[Here | AsyncTrustscale], Awaitable[Answer]],
) -> Answer:
    """What the stores that the settings name answer, or a server.

    Raises:
        ConfigError, RemoteError: as `app.cli.remote.remote`.
    """

    async def answer() -> Answer:
        if server is None:
            async with local() as parts:
                return await question(Here(parts))
        with refusals(server):
            async with AsyncTrustscale(*connection(server, key_env), retries=0) as service:
                return await question(service)

    return asyncio.run(answer())


async def audit(parts: Parts, action: str, **facts: Any) -> None:
    """Keep what was done to a calibration in the audit log of the stores, as a server does."""
    await parts.stores.audit.append(f"calibration.{action}", "command line", facts)


async def described(
    parts: Parts, calibration: Calibration, group: str | None = None
) -> dict[str, Any]:
    """A calibration as a server describes it; n and the thresholds are those of the group."""
    return (await detail(parts, calibration, group)).model_dump(mode="json")
