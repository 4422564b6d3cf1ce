"""Calibrations from a folder of pairs: a job is started and watched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import typer

from trustscale import AsyncJob, AsyncTrustscale, Problem, Tar
from trustscale_server.calibrating.in_place import path_table
from trustscale_server.calibrating.intake.find import find_in, folder_files
from trustscale_server.calibrating.intake.grouping import GroupingRule
from trustscale_server.cli.bars import Bars, interruptible, progress_bars
from trustscale_server.cli.choice import meant_upscalers
from trustscale_server.cli.in_process import ALL
from trustscale_server.cli.job_text import costs_of
from trustscale_server.cli.service import RemoteError, refusals, service_client
from trustscale_server.platform.errors import ConfigError, TrustscaleError


class MadeCalibration(NamedTuple):
    """A calibration's description, its file, and why it was not activated as requested."""

    document: dict[str, Any]
    file: bytes
    refusal: TrustscaleError | None


def _question(plan: Mapping[str, Any]) -> str:
    """What is about to be spent."""
    kinds = plan["pairs"] // plan["pictures"]
    as_kinds = f", each as {kinds} kinds of upload" if kinds > 1 else ""
    return f"{plan['pictures']:,} pictures{as_kinds}: {costs_of(plan)}. Begin?"


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """How a calibration is made.

    config: the settings of a new one. extends: the calibration that gets the pairs instead.
    server: None: this process makes it from the files in place. yes: whether calls of an upscaler
    outside of this program are made without a question. skips: whether unusable pairs are left out.
    """

    server: str | None
    config: Mapping[str, Any] = field(default_factory=dict)
    extends: str | None = None
    upscaler: str | None = ALL
    yes: bool = False
    activate: bool = False
    force: bool = False
    skips: bool = False
    with_file: bool = False

    def run(self, folder: Path, naming: GroupingRule) -> MadeCalibration | None:
        """Run the job on a folder of pairs; return its outcome, or None if it awaits labels.

        Raises:
            RemoteError: the pairs were refused, or a job failed or was cancelled.
            BadPairs: the folder holds no pairs.
        """
        used = {path for pair in find_in(folder, naming) for path in pair.paths.values()}
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

            async def work() -> MadeCalibration | None:
                async with service_client(
                    self.server,
                    upscaler=self.upscaler,
                    many=True,
                    on_checked=partial(bars, "checking images"),
                ) as service:
                    job = await self._start(service, members, naming, bars)
                    if self.server is not None:
                        command = f"trustscale calibrations show {job.id} --server {self.server}"
                        interrupted.text = f"The job continues. Look: {command}"
                    return await self._finish(service, job, bars)

            return asyncio.run(work())

    async def _start(
        self, service: AsyncTrustscale, members: dict[str, Path], naming: GroupingRule, bars: Bars
    ) -> AsyncJob:
        if self.server is None:
            pairs = Tar(path_table(members))
        else:
            pairs = Tar(members, partial(bars, "uploading", is_bytes=True))
        grouping: dict[str, Any] = {"group_by": naming.group_by, "scene_by": naming.scene_by}
        may_cost = await self._calls_may_cost(service)
        if may_cost and not self.yes:
            plan = await service.plan(pairs, extends=self.extends, **grouping, **self.config)
            if plan["calls"] and not bars.confirmed(_question(plan)):
                raise typer.Exit(1)
        # A job of this process is activated when it has ended.
        activation: dict[str, Any] = {
            "activate": self.activate and self.server is not None,
            "force": self.force,
        }
        if self.extends is None:
            job = await service.calibrate(pairs, **grouping, **self.config, **activation)
        else:
            job = await service.extend(self.extends, pairs, **grouping, **activation)
        if self.server is not None:
            bars.line(f"{job.id} is queued on {self.server}")
        for warning in job.document["warnings"]:
            bars.line(f"{warning} (--scene-by)")
        bars.line(costs_of(job.document))
        return job

    async def _calls_may_cost(self, service: AsyncTrustscale) -> bool:
        """Whether the calls may cost: the model runs outside of the program that is asked."""
        name = None if self.upscaler == ALL else self.upscaler
        if self.extends is not None:
            name = (await service.calibration(self.extends))["upscaler"]
        rows = await meant_upscalers(service, name)
        if name is None and len(rows) > 1:
            choices = " or ".join(row["name"] for row in rows)
            raise ConfigError(
                "The server chooses its upscaler by the class of an upload: name the one to "
                f"calibrate with --upscaler, {choices}."
            )
        return any(row["kind"] not in {"embedded", "supplied"} for row in rows)

    async def _finish(
        self, service: AsyncTrustscale, job: AsyncJob, bars: Bars
    ) -> MadeCalibration | None:
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
        if not job.document["progress"]["total"]:
            bars.line(f"already done as {document['id']}: nothing was generated")
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
        return MadeCalibration(document, data, refusal)

    def _with_advice(self, problem: Problem) -> str:
        """Why a job of this process failed, and how to continue where that helps."""
        if problem.type != "/problems/bad-pairs":
            advice = "Run the same command again to continue; what was measured is kept."
        elif self.skips:  # no pair is left
            return problem.detail
        else:
            advice = "Leave them out with --skip-bad-pairs; what was measured is kept."
        return f"{problem.detail} {advice}"
