"""Calibrations that the command line makes, of files in their place.

The application gets a table of paths (`path_table`) instead of an archive. A job's id follows from
its pairs and settings, and its records are kept until it succeeds, so repeating the command
continues where the last one stopped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, cast

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.create import (
    CalibrationCreator,
    CheckedRequest,
    Plan,
    Submission,
)
from trustscale_server.calibrating.intake.layout import NamedFile
from trustscale_server.calibrating.intake.take_in import NamedFiles
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.platform.errors import BadRequest, NotFound
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.files import held
from trustscale_server.stores.job_status import JobState, JobStatus
from trustscale_server.stores.opened import Stores, open_stores
from trustscale_server.stores.uploads import forget_files

_LIST: Final = "files.json"


def path_table(members: Mapping[str, Path]) -> dict[str, bytes]:
    """Make the table of paths that is sent in place of the files."""
    places = {name: str(path.absolute()) for name, path in members.items()}
    return {_LIST: json.dumps(places).encode()}


def files_at(places: Mapping[str, str]) -> Iterator[NamedFile]:
    """Yield the files of a table made by `path_table`."""
    for name, place in places.items():
        yield NamedFile(name, Path(place).read_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCreator(CalibrationCreator):
    """Begins calibrations of files in their place, on `private_stores`.

    data_dir: of the locks.
    stack: closes what jobs hold.
    on_checked: called with (files checked, all files).
    """

    data_dir: Path
    stack: AsyncExitStack
    on_checked: Callable[[int, int], None] = lambda *_: None

    async def begin(
        self, config: CalibrationConfig, submission: Submission, webhook: str | None
    ) -> JobStatus:
        """Queue the job of the files of a `path_table`, or resume an earlier run of it.

        Raises:
            ConfigError: another process is making this calibration.
        """
        checked, places = await self._check_in_place(config, submission)
        jobs, blobs = self.stores.jobs, cast("InPlace", self.stores.blobs)
        job_id = run_id(checked.request)
        lock = self.data_dir / f"{job_id}.lock"
        self.stack.enter_context(held(lock, "Another process is making this calibration."))
        self.stack.push_async_callback(self._leave, job_id)
        measured = await jobs.recorded_tasks(job_id)
        job = await self.job_of(checked, job_id, measured=measured, webhook=webhook)
        blobs.place(job.id, checked.request.pairs, places)
        await jobs.renew(job)
        return await self.queue.submit(job)

    async def plan(self, config: CalibrationConfig, submission: Submission) -> Plan:
        """Return what `create` would take; pairs that an earlier run measured cost nothing."""
        checked, _ = await self._check_in_place(config, submission)
        measured = await self.stores.jobs.recorded_tasks(run_id(checked.request))
        return await self.plan_of(checked, measured)

    async def _check_in_place(
        self, config: CalibrationConfig, submission: Submission
    ) -> tuple[CheckedRequest, Mapping[str, str]]:
        """The request for the files of a `path_table`, and where they are."""
        places = await asyncio.to_thread(_places, submission.files)
        checked = await self.check(
            config,
            replace(submission, files=partial(files_at, places)),
            labels_are_claimed=False,
            on_progress=self.on_checked,
        )
        return checked, places

    async def _leave(self, job: str) -> None:
        if (await self.stores.jobs.get(job)).state is JobState.SUCCEEDED:
            await self.stores.job_retention.forget(job)
            await forget_files(self.stores.blobs, job)
            (self.data_dir / f"{job}.lock").unlink(missing_ok=True)


def private_stores(stores: Stores, data_dir: Path, stack: AsyncExitStack) -> Stores:
    """Return the stores with jobs apart from a server's, whose files are read in place."""
    own = open_stores("sqlite:///calibrate.sqlite3", data_dir, result_ttl_s=1.0, max_result_bytes=1)
    stack.push_async_callback(own.close)
    return replace(
        stores, jobs=own.jobs, job_retention=own.job_retention, blobs=InPlace(stores.blobs)
    )


def _places(files: NamedFiles) -> Mapping[str, str]:
    for file in files():
        if file.path == _LIST:
            places: dict[str, str] = json.loads(file.read())
            return places
    raise BadRequest(f"An application of the command line is sent {_LIST}.")


def run_id(request: CalibrationRequest) -> str:
    """Return the id of the job of a request, so that a run can be resumed."""
    return f"calibrate-{request.key}"


class InPlace(Blobs):
    """Blobs that read the files of pairs in place."""

    def __init__(self, blobs: Blobs) -> None:
        super().__init__(blobs.store, blobs.root)
        self._files: dict[str, dict[str, Path]] = {}

    def place(self, job: str, pairs: Sequence[PairSource], places: Mapping[str, str]) -> None:
        """Register where the files of the pairs of a job are."""
        self._files[job] = {
            f"{role}/{pair.upload}": Path(places[path])
            for pair in pairs
            for role, path in pair.paths.items()
        }

    async def get(self, job: str, name: str, *, most: int | None = None) -> bytes:
        """Read a file, as `Blobs.get`."""
        path = self._files.get(job, {}).get(name)
        if path is None:
            return await super().get(job, name, most=most)
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}.") from error

    async def names(self, job: str) -> list[str]:
        """List the files, as `Blobs.names`."""
        return sorted({*self._files.get(job, ()), *await super().names(job)})
