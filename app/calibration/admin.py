"""What an admin does with calibrations: create, extend, inspect, label, activate, remove.

The HTTP layer calls this and nothing else. A calibration that is still being made is known by the
id of its job; once it is finished, that id keeps leading to it.
"""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image

from app.calibration import file
from app.calibration.active import Calibrations
from app.calibration.archive import Entry
from app.calibration.config import CalibrationConfig
from app.calibration.pairs import bad_pairs, decode_label
from app.calibration.record import Calibration, Provenance
from app.calibration.uploads import UploadedFile, UploadedPairs, check_uploaded, spool_pairs
from app.conformal.backtest import BacktestRow, backtest
from app.conformal.guarantees import leakage_bound, minimal_n
from app.errors import BadPairs, BadRequest, Conflict, NotFound
from app.jobs.calibration import CalibrationRequest, record_state, waiting_pair
from app.jobs.queue import JobQueue
from app.pipeline import Pipeline, guard
from app.stores.base import Activation, Job, JobState, Progress, Stores
from app.upscalers.base import Upscaler

COMMON_ALPHAS = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
_JOB_PREFIX = "job-"


class CalibrationAdmin:
    """The admin's actions; every method raises the errors of `app.errors`."""

    def __init__(
        self,
        upscalers: Mapping[str, Upscaler],
        default: str,
        calibrations: Calibrations,
        stores: Stores,
        queue: JobQueue,
    ) -> None:
        self.upscalers = upscalers
        self.default = default
        self.calibrations = calibrations
        self.stores = stores
        self.queue = queue

    async def create(
        self,
        config: CalibrationConfig,
        files: Iterable[UploadedFile | Entry],
        *,
        created_by: str,
    ) -> Job:
        """Spool and check the pairs, then queue the job.

        Raises:
            BadPairs: some pairs cannot be used and the config says "fail", or none can.
        """
        upscaler = self._upscaler(config.upscaler)
        return await self._submit(
            config, config.pipeline(upscaler), upscaler, files, created_by=created_by, parent=None
        )

    async def extend(
        self,
        calibration: Calibration,
        files: Iterable[UploadedFile | Entry],
        *,
        created_by: str,
        activate: bool,
    ) -> Job:
        """A new calibration of the old pairs and new ones; only the new ones are generated for."""
        manifest, pipeline = calibration.manifest, calibration.pipeline
        upscaler = self._upscaler(manifest.upscaler)
        guard(pipeline, upscaler)
        config = CalibrationConfig(
            name=manifest.name,
            upscaler=manifest.upscaler,
            samples=pipeline.samples,
            prediction=pipeline.prediction,
            indecision=pipeline.indecision,
            fidelity=pipeline.fidelity,
            default_alpha=manifest.default_alpha,
            degradation=manifest.degradation,
            activate=activate,
            seed=manifest.seed,
        )
        return await self._submit(
            config, pipeline, upscaler, files, created_by=created_by, parent=calibration
        )

    async def without_pair(
        self, calibration: Calibration, name: str, *, created_by: str
    ) -> Calibration:
        """A new calibration without one pair, from the stored staircases."""
        pairs = calibration.measured_pairs()
        kept = [pair for pair in pairs if pair.info.name != name]
        if len(kept) == len(pairs):
            raise NotFound(f"The calibration has no pair {name!r}.")
        manifest = calibration.manifest
        smaller = Calibration.from_pairs(
            kept,
            upscaler=manifest.upscaler,
            pipeline=calibration.pipeline,
            name=manifest.name,
            default_alpha=manifest.default_alpha,
            degradation=manifest.degradation,
            seed=manifest.seed,
            skipped=[*manifest.skipped, {"name": name, "reason": f"removed by {created_by}"}],
            provenance=Provenance(
                created_by=created_by,
                parent=calibration.id,
                note=manifest.provenance.note,
                attributions=manifest.provenance.attributions,
            ),
        )
        await self.calibrations.add(smaller, activate=False)
        return smaller

    async def resolve(self, calibration: str) -> Calibration | Job:
        """The calibration of an id, or the job that is making it."""
        if not calibration.startswith(_JOB_PREFIX):
            return await self.calibrations.get(calibration)
        job = await self.stores.jobs.get(calibration)
        if job.kind != "calibration":
            raise NotFound(f"{calibration!r} is not a calibration.")
        if job.state is JobState.SUCCEEDED and job.result:
            return await self.calibrations.get(job.result.rsplit("/", 1)[-1])
        return job

    async def finished(self, calibration: str) -> Calibration:
        """The calibration of an id.

        Raises:
            Conflict: it is not finished.
        """
        found = await self.resolve(calibration)
        if isinstance(found, Job):
            raise Conflict(f"The calibration is not finished: it is {found.state}.")
        return found

    async def import_file(self, data: bytes, *, activate: bool) -> Calibration:
        """Check and store a calibration file."""
        calibration = await asyncio.to_thread(file.load, data)
        if activate and calibration.manifest.upscaler in self.upscalers:
            guard(calibration.pipeline, self.upscalers[calibration.manifest.upscaler])
        await self.calibrations.add(calibration, activate=activate)
        return calibration

    async def activate(self, calibration: Calibration) -> Activation:
        """Serve from it, after the guard has compared its pipeline with the live upscaler."""
        guard(calibration.pipeline, self._upscaler(calibration.manifest.upscaler))
        return await self.calibrations.store.activate(calibration.id)

    async def waiting_pairs(self, job: Job) -> list[dict[str, Any]]:
        """The items of a job: which are measured, labelled, or wait for their label."""
        names = set(await self.stores.spool.names(job.id))
        records = {name: data async for name, data in self.stores.jobs.records(job.id)}
        items = []
        for pair in CalibrationRequest.of(job).pairs:
            name = pair["name"]
            record = records.get(name)
            item: dict[str, Any] = {
                "name": name,
                "state": record_state(record) if record else "queued",
                "labelled": f"labels/{name}" in names,
            }
            waiting = waiting_pair(record) if record else None
            if waiting is not None:
                item |= {
                    "width": waiting.info.width,
                    "height": waiting.info.height,
                    "prediction_sha256": waiting.prediction_sha256,
                }
            items.append(item)
        return items

    async def put_label(self, job: Job, name: str, data: bytes) -> None:
        """Store the label of one pair, replacing an earlier one.

        Raises:
            Conflict: the job does not wait for labels.
            BadImage: not an image of the prediction's size.
        """
        if job.state is not JobState.AWAITING_LABELS:
            raise Conflict(f"Labels are taken while the job awaits them; it is {job.state}.")
        records = {key: value async for key, value in self.stores.jobs.records(job.id)}
        waiting = waiting_pair(records.get(name, b""))
        if waiting is None:
            raise NotFound(f"No pair {name!r} awaits a label.")
        shape = (waiting.info.height, waiting.info.width)
        label = await asyncio.to_thread(decode_label, data, shape)
        await self.stores.spool.put(job.id, f"labels/{name}", await asyncio.to_thread(_png, label))

    async def finish(self, job: Job) -> Job:
        """Go on with a job whose labels are drawn.

        Raises:
            Conflict: it does not await labels.
            BadPairs: labels are missing; each is named.
        """
        if job.state is not JobState.AWAITING_LABELS:
            raise Conflict(f"The job does not await labels; it is {job.state}.")
        missing = [
            {"name": item["name"], "reason": "the label is missing"}
            for item in await self.waiting_pairs(job)
            if item["state"] == "awaiting_label" and not item["labelled"]
        ]
        if missing:
            raise bad_pairs(missing, len(missing))
        return await self.queue.resume(job.id)

    async def _submit(
        self,
        config: CalibrationConfig,
        pipeline: Pipeline,
        upscaler: Upscaler,
        files: Iterable[UploadedFile | Entry],
        *,
        created_by: str,
        parent: Calibration | None,
    ) -> Job:
        job_id = f"{_JOB_PREFIX}{secrets.token_urlsafe(15)}"
        known = [(p.name, p.y_sha256) for p in parent.manifest.pairs] if parent else []
        try:
            found = await spool_pairs(files, self.stores.spool, job_id)
            usable, items = _usable(found, config, pipeline, known)
        except BaseException:
            await self.stores.spool.delete(job_id)
            raise
        if usable[0]["x"]:
            config = config.model_copy(update={"degradation": None})
        request = CalibrationRequest(
            config=config,
            pipeline=pipeline,
            upscaler=upscaler.name,
            pairs=usable,
            skipped=items,
            created_by=created_by,
            parent=parent.id if parent else None,
        )
        return await self.queue.submit(
            Job(
                id=job_id,
                kind="calibration",
                progress=Progress(total=len(usable), unit="pairs"),
                created_at=datetime.now(UTC),
                request=request.to_json(),
            )
        )

    def _upscaler(self, name: str | None) -> Upscaler:
        found = self.upscalers.get(name or self.default)
        if found is None:
            raise NotFound(
                f"No upscaler is called {name!r}; there are: {', '.join(self.upscalers)}."
            )
        return found


def thresholds(calibration: Calibration) -> list[dict[str, float]]:
    """t_α and the mean trusted area of the pairs at common α."""
    rows = []
    for alpha in COMMON_ALPHAS:
        threshold = calibration.curve.threshold(alpha)
        rows.append(
            {
                "alpha": alpha,
                "threshold": threshold,
                "trusted_fraction": calibration.mean_trusted_fraction(threshold),
            }
        )
    return rows


def checks(calibration: Calibration) -> dict[str, Any]:
    """Whether the assumptions look sound: size of the set, image sizes, dominant pairs."""
    alpha = calibration.manifest.default_alpha
    threshold = calibration.curve.threshold(alpha)
    losses = np.array([s.loss_below(threshold) for s in calibration.staircases])
    share = losses / losses.sum() if losses.sum() > 0 else losses
    order = np.argsort(share)[::-1][:5]
    infos = calibration.manifest.pairs
    return {
        "n": calibration.n,
        "minimal_n": minimal_n(alpha, calibration.bound),
        "alpha": alpha,
        "sizes": sorted({f"{info.width}x{info.height}" for info in infos})[:20],
        "dominant_pairs": [
            {"name": infos[i].name, "loss": float(losses[i]), "share": float(share[i])}
            for i in order
        ],
    }


def run_backtest(
    calibration: Calibration, splits: int, alphas: Sequence[float] = COMMON_ALPHAS
) -> list[BacktestRow]:
    """Realised loss and trusted area over random halvings of the pairs.

    Raises:
        BadRequest: fewer than two pairs.
    """
    if calibration.n < 2:
        raise BadRequest("A backtest needs at least two pairs.")
    return backtest(
        calibration.staircases,
        calibration.sigma_quantiles,
        calibration.bound,
        alphas,
        splits=splits,
    )


def leaked(calibration: Calibration, n_leaked: int) -> float:
    """The bound at the default α that survives `n_leaked` training images among the pairs.

    Raises:
        BadRequest: n_leaked is not between 0 and n.
    """
    try:
        return leakage_bound(
            calibration.manifest.default_alpha, calibration.n, n_leaked, calibration.bound
        )
    except ValueError as error:
        raise BadRequest(f"{error}.") from error


def _usable(
    found: UploadedPairs,
    config: CalibrationConfig,
    pipeline: Pipeline,
    known: Sequence[tuple[str, str]],
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The pairs that can be used and the items that cannot, as far as the config allows any."""
    usable, items = check_uploaded(found, pipeline, known)
    if items and (config.on_bad_pair == "fail" or not usable):
        raise bad_pairs(items, len(usable) + len(items))
    if not usable:
        raise BadPairs("There are no pairs: send archive, or files x and y.", items=[])
    _check_labels(usable, pipeline)
    return usable, items


def _check_labels(pairs: Sequence[Mapping[str, Any]], pipeline: Pipeline) -> None:
    labelled = [pair["name"] for pair in pairs if pair["label"]]
    if labelled and pipeline.fidelity.metric != "semantic":
        raise BadPairs(
            "Labels belong to the semantic metric only.",
            items=[{"name": name, "reason": "has a label"} for name in labelled],
        )
    unfounded = [
        {"name": pair["name"], "reason": "labels/predictions.json does not name its prediction"}
        for pair in pairs
        if pair["label"] and not pair["prediction"]
    ]
    if unfounded:
        raise bad_pairs(unfounded, len(pairs))


def _png(label: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(label).save(out, "PNG")
    return out.getvalue()
