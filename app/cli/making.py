"""Calibrations from a folder of pairs: a job is started and watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from app.calibration.intake import find_in, folder_files
from app.calibration.layout import Naming
from app.calibration.local import listed
from app.cli.bars import Bars, interruptible, progress_bars
from app.cli.service import ALL, RemoteError, connected, refusals
from app.errors import TrustscaleError
from app.serving.prepare import duration
from trustscale import AsyncJob, AsyncTrustscale, Problem, Tar

_BAD_PAIRS = "/problems/bad-pairs"
_FEW_S = 10


class Outcome(NamedTuple):
    """A calibration's description, its file, and why it was not activated as requested."""

    document: dict[str, Any]
    file: bytes
    refusal: TrustscaleError | None


def costs_of(job: Mapping[str, Any]) -> str:
    """The expected cost of a job in one line."""
    calls, seconds, price = job["calls"], job["estimate_s"], job["price"]
    parts = [f"{calls:,} call{'s' if calls != 1 else ''} of the upscaler"]
    if seconds is not None:
        parts.append("a few seconds" if seconds < _FEW_S else f"about {duration(seconds)}")
    if price is not None:
        parts.append(f"for {price:g}")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Making:
    """How a calibration is made.

    begin: sends the pairs. server: None: this process makes it from the files in place. skips:
    whether unusable pairs are left out.
    """

    begin: Callable[..., Awaitable[AsyncJob]]
    server: str | None
    upscaler: str | None = ALL
    activate: bool = False
    force: bool = False
    skips: bool = False
    with_file: bool = False

    def run(self, folder: Path, naming: Naming) -> list[Outcome]:
        """The outcomes of the jobs on a folder of pairs; one that awaits labels has none.

        Raises:
            RemoteError: the pairs were refused, or a job failed or was cancelled.
            BadPairs: the folder holds no pairs.
        """
        used = {path for pair in find_in(folder, naming) for path in pair.by_role.values()}
        members = {
            file.path: path
            for file in folder_files(folder)
            if str(path := folder / file.path) in used or file.is_table or file.is_predictions
        }
        with interruptible() as interrupted, progress_bars() as bars:
            interrupted.text = (
                "What is measured is kept; run the same command again to continue."
                if self.server is None
                else "Nothing was begun."
            )

            async def work() -> list[Outcome]:
                async with connected(
                    self.server,
                    upscaler=self.upscaler,
                    many=True,
                    on_checked=partial(bars, "checking images"),
                ) as service:
                    jobs = await self._begun(service, members, naming, bars)
                    if self.server is not None:
                        look = f"trustscale calibrations show {jobs[0].id} --server {self.server}"
                        interrupted.text = f"The job continues. Look: {look}"
                    made = [await self._ended(service, job, bars) for job in jobs]
                    return [outcome for outcome in made if outcome is not None]

            return asyncio.run(work())

    async def _begun(
        self, service: AsyncTrustscale, members: dict[str, Path], naming: Naming, bars: Bars
    ) -> list[AsyncJob]:
        if self.server is None:
            pairs = Tar(listed(members))
        else:
            pairs = Tar(members, partial(bars, "uploading", is_bytes=True))
        job = await self.begin(service, pairs, group_by=naming.group_by, scene_by=naming.scene_by)
        jobs = [job, *[await service.job(one) for one in job.document["also"]]]
        if self.server is not None:
            for one in jobs:
                bars.line(f"{one.id} is queued on {self.server}")
        for warning in job.document["warnings"]:
            bars.line(f"{warning} (--scene-by)")
        for one in jobs:
            bars.line(costs_of(one.document))
        return jobs

    async def _ended(self, service: AsyncTrustscale, job: AsyncJob, bars: Bars) -> Outcome | None:
        measuring = partial(bars, "measuring pairs")
        measuring(0, None)  # it may wait for its turn
        await job.watch(measuring)
        if job.state == "awaiting_labels":
            pairs = f"{self.server}/v1/admin/calibrations/{job.id}/pairs"
            bars.line(f"{job.id} awaits labels: {pairs}")
            return None
        try:
            document: dict[str, Any] = await job.wait()
        except Problem as problem:
            if self.server is not None:
                raise
            raise Problem(
                {**problem.members, "type": problem.type, "detail": self._with_advice(problem)}
            ) from None
        for item in document["skipped"]:
            bars.line(f"skipped {item['name']}: {item['reason']}")
        refusal = None
        if self.activate and document["state"] != "active":  # a server has only logged why
            try:
                with refusals(self.server):
                    await service.activate(document["id"], force=self.force)
                document["state"] = "active"
            except RemoteError as error:
                refusal = error
        data = await service.export(document["id"]) if self.with_file else b""
        return Outcome(document, data, refusal)

    def _with_advice(self, problem: Problem) -> str:
        """Why a job of this process failed, and how to continue where that helps."""
        if problem.type != _BAD_PAIRS:
            again = "Run the same command again to continue; what was measured is kept."
        elif self.skips:  # no pair is left
            return problem.detail
        else:
            again = "Leave them out with --skip-bad-pairs; what was measured is kept."
        return f"{problem.detail} {again}"
