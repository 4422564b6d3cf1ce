"""A calibration that is made in this process, from files where they lie: the command line's way.

It is the very job of the service (`app/calibration/job.py`), carried by a queue in memory. Its id
follows from its pairs and settings, and what it has recorded is kept until it has succeeded: so the
same command, given again, goes on where the last one stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from app.calibration.active import Calibrations
from app.calibration.config import CalibrationConfig, CalibrationRequest
from app.calibration.intake import Intake
from app.calibration.job import CalibrationHandler
from app.calibration.layout import PairFiles
from app.calibration.record import Calibration
from app.errors import NotFound, TrustscaleError
from app.jobs.queue import JobQueue
from app.sampling.pipeline import Pipeline
from app.stores.base import Blobs, Job, JobState, JobStatus, MonitorStore
from app.stores.folders import held
from app.stores.jobs import JobStore
from app.stores.sqlite import SqliteDocuments
from app.upscalers.base import Upscaler

DATABASE: Final = "calibrate.sqlite3"
"""In the data folder: jobs of the command line. A server does not look there."""


class NotFinished(TrustscaleError):
    """The job failed or was interrupted; what is measured is kept."""


@dataclass(frozen=True, slots=True)
class Here:
    """Makes calibrations in this process."""

    data_dir: Path
    upscalers: Mapping[str, Upscaler]
    calibrations: Calibrations
    blobs: Blobs
    states: MonitorStore
    watched: Sequence[str] = ()

    async def make(
        self,
        upscaler: Upscaler,
        taken: Intake,
        files: Sequence[PairFiles],
        config: CalibrationConfig,
        pipeline: Pipeline,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Calibration:
        """Measure the pairs that are not measured yet, and store the calibration of all.

        Raises:
            NotFinished: the job failed.
            ConfigError: another process is making this calibration.
        """
        request = CalibrationRequest.asking(
            config.model_copy(update={"activate": False}),
            pipeline,
            upscaler,
            taken.usable,
            skipped=taken.skipped,
            created_by="local",
        )
        job = request.as_job(run_id(request))
        blobs = _InPlace(self.blobs, job.id, files)
        handler = CalibrationHandler(
            self.upscalers,
            self.calibrations,
            blobs,
            self.states,
            self.watched,
            keeps_pictures=False,
        )
        busy = "Another process is making this calibration."
        with held(self.data_dir / f"{job.id}.lock", busy):
            database = await asyncio.to_thread(SqliteDocuments, self.data_dir / DATABASE)
            jobs = JobStore(database)
            try:
                slots = upscaler.capabilities.concurrency + 1
                last = await _ended(job, jobs, handler, slots, on_progress)
                made = await self._made(last, jobs, request)
                await jobs.forget(job.id)
                await self.blobs.delete(job.id)
            finally:
                await database.close()
        (self.data_dir / f"{job.id}.lock").unlink(missing_ok=True)
        return made

    async def _made(
        self, last: JobStatus, jobs: JobStore, request: CalibrationRequest
    ) -> Calibration:
        if last.state is JobState.SUCCEEDED and last.result:
            return await self.calibrations.get(last.result.rsplit("/", 1)[-1])
        error = last.error or {"detail": f"The job is {last.state}."}
        items = error.get("items", [])
        kept = len(await jobs.recorded(last.id))
        again = "Run the same command again to continue"
        if error.get("type") == "/problems/bad-pairs":  # the same command would end in the same way
            if request.config.on_bad_pair == "skip" or not kept:
                await jobs.forget(last.id)
                await self.blobs.delete(last.id)
                raise NotFinished(error["detail"], items=items)
            again = "Leave them out with --skip-bad-pairs"
        left_out = f", {len(request.skipped)} left out" if request.skipped else ""
        raise NotFinished(
            f"{error['detail']} {again}; {kept} of {len(request.pairs)} pairs are kept{left_out}.",
            items=items,
        )


async def _ended(
    job: Job,
    jobs: JobStore,
    handler: CalibrationHandler,
    slots: int,
    on_progress: Callable[[int, int], None] | None,
) -> JobStatus:
    """Run the job; its last state. One that was interrupted goes on next time."""
    stop = asyncio.Event()
    await jobs.renew(job)
    async with JobQueue(f"memory://{uuid4().hex}", jobs) as queue:
        await queue.submit(job)
        running = asyncio.create_task(
            queue.run(
                {"calibration": handler},
                stop=stop,
                concurrency={"calibration": slots},
                drain_s=0.0,
                unfinished=False,
            )
        )
        watching = asyncio.create_task(_watched(jobs, job.id, on_progress))
        try:
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            watching.cancel()
            await running
        return await jobs.get(job.id)


async def _watched(
    jobs: JobStore, job: str, on_progress: Callable[[int, int], None] | None
) -> None:
    async with aclosing(jobs.watch(job)) as states:
        async for state in states:
            if on_progress is not None:
                on_progress(state.progress.done, state.progress.total)


def run_id(request: CalibrationRequest) -> str:
    """An id that the same pairs under the same settings always get: what a resumed run finds."""
    digest = hashlib.sha256(request.pipeline.model_dump_json().encode())
    settings = request.config.model_dump_json(include={"degradation", "seed", "fit_indecision"})
    digest.update(settings.encode())
    for key in sorted(
        f"{pair.name}:{pair.x_sha256}:{pair.y_sha256}:{pair.label_sha256}" for pair in request.pairs
    ):
        digest.update(key.encode())
    # They follow from the scenes too: none may calibrate in this run and be fitted on in that one.
    for name in sorted(request.shares.fitted):
        digest.update(name.encode())
    return f"calibrate-{digest.hexdigest()[:24]}"


class _InPlace:
    """Blobs that find the files of one job where they lie: nothing is copied."""

    def __init__(self, blobs: Blobs, job: str, pairs: Sequence[PairFiles]) -> None:
        self._blobs = blobs
        self._job = job
        self._files = {
            f"{role}/{pair.name}": Path(path)
            for pair in pairs
            for role, path in pair.by_role.items()
        }
        self.put = blobs.put
        self.create = blobs.create
        self.delete = blobs.delete
        self.untouched = blobs.untouched
        self.link = blobs.link

    async def get(self, job: str, name: str) -> bytes:
        """See `Blobs.get`."""
        if job != self._job or name not in self._files:
            return await self._blobs.get(job, name)
        try:
            return await asyncio.to_thread(self._files[name].read_bytes)
        except OSError as error:
            raise NotFound(f"{self._files[name]} cannot be read: {error.strerror}.") from error

    async def names(self, job: str) -> list[str]:
        """See `Blobs.names`."""
        there = self._files if job == self._job else ()
        return sorted({*there, *await self._blobs.names(job)})
