"""The request of a calibration job: pairs, and all that their measurement depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.fit_split import FitSplit, default_share, fit_split
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import variants_of
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.stores.job_status import Job, JobAbout, Progress
from trustscale_server.upscalers.base import Upscaler, settings_of, stated_of


class CalibrationRequest(BaseModel):
    """A calibration job's request, as the job store keeps it.

    enlarged_by: as `Provenance`.
    done: the calibration of the same pairs under the same settings, whose measurements are used.
    """

    model_config = ConfigDict(frozen=True)

    config: CalibrationConfig
    pipeline: MeasurementSpec
    upscaler: str
    pairs: list[PairSource]
    skipped: list[dict[str, str]]
    created_by: str
    parent: str | None = None
    settings: dict[str, str] = {}
    enlarged_by: str | None = None
    done: str | None = None

    @property
    def key(self) -> str:
        """A digest that is equal for equal pairs whose measurement has equal settings."""
        digest = hashlib.sha256(self.pipeline.model_dump_json().encode())
        digest.update(self.upscaler.encode())  # several may have one fingerprint
        settings = self.config.model_dump_json(include={"degradation", "seed", "fit_indecision"})
        digest.update(settings.encode())
        if self.parent is not None:
            digest.update(self.parent.encode())
        for identity in sorted(map(_identity, self.pairs)):
            digest.update(identity.encode())
        # Scenes matter too: none may calibrate in one run and be fitted on in another.
        for name in sorted(self.fit_split.fitted):
            digest.update(name.encode())
        return digest.hexdigest()[:24]

    @classmethod
    def from_job(cls, job: Job) -> CalibrationRequest:
        """Return the request of a stored job."""
        return cls.model_validate(job.request)

    @classmethod
    def from_uploads(
        cls,
        config: CalibrationConfig,
        pipeline: MeasurementSpec,
        upscaler: Upscaler,
        uploads: Sequence[PairSource],
        **fields: Any,
    ) -> CalibrationRequest:
        """Return the request for uploads that were taken in; `fields` are further ones.

        If one upload has an X, all have; else the config says how X is made.
        """
        made_by = None if "x" in uploads[0].sha256 else config.input_made_by(pipeline.scale)
        share = config.fit_indecision or 0.0
        if config.fit_indecision is None and config.may_fit(pipeline.indecision):
            share = default_share(len({upload.scene or upload.name for upload in uploads}))
        chosen = {"degradation": made_by, "fit_indecision": share}
        variants = variants_of(made_by)
        return cls(
            config=config.model_copy(update=chosen),
            pipeline=pipeline,
            upscaler=upscaler.name,
            pairs=[pair for upload in uploads for pair in upload.in_variants(variants)],
            settings=settings_of(upscaler),
            enlarged_by=stated_of(upscaler),
            **fields,
        )

    def as_job(self, job: str, **about: Any) -> Job:
        """Return the job of this id for the request; `about` are further fields of `JobAbout`."""
        return Job(
            id=job,
            kind="calibration",
            progress=Progress(total=0 if self.done else len(self.pairs), unit="pairs"),
            created_at=datetime.now(UTC),
            about=JobAbout(
                key=self.created_by.removeprefix("key "),
                name=self.config.name,
                upscaler=self.upscaler,
                metric=self.pipeline.fidelity.metric,
                needs_label=self.pipeline.fidelity.spec.needs_label,
                parent=self.parent,
                left_out=len(self.skipped),
                **about,
            ),
            request=self.model_dump(mode="json", exclude={"pairs": {"__all__": {"paths"}}}),
        )

    def pair(self, name: str) -> PairSource:
        """Return the pair of a name."""
        return self._by_name[name]

    @cached_property
    def names(self) -> list[str]:
        """The names of all pairs."""
        return [pair.name for pair in self.pairs]

    @cached_property
    def _by_name(self) -> dict[str, PairSource]:
        return {pair.name: pair for pair in self.pairs}

    @cached_property
    def fit_split(self) -> FitSplit:
        """The pairs that σ is fitted on."""
        scenes = {pair.name: pair.scene or pair.upload for pair in self.pairs}
        return fit_split(scenes, self.config.fit_indecision or 0.0, self.config.seed)


def _identity(pair: PairSource) -> str:
    """A text that is equal for a pair of the same name and files."""
    digests = [str(pair.sha256.get(role)) for role in ("x", "y", "labels")]
    if "enlarged" in pair.sha256:
        digests.append(pair.sha256["enlarged"])
    return ":".join([pair.name, *digests])
