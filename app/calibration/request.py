"""The settings, pairs and origin of a calibration that is to be made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from app.calibration.config import CalibrationConfig
from app.calibration.pairs import variant_name, variants_of
from app.calibration.price import tells
from app.conformal import fidelity, fitting
from app.images.degrade import Degradation, Mixture
from app.sampling.pipeline import Pipeline
from app.stores.base import Job, Progress
from app.upscalers.base import Upscaler, settings_of


@dataclass(frozen=True, slots=True)
class Shares:
    """The names of the pairs that σ is fitted on, their scenes, and why there are none."""

    fitted: frozenset[str] = frozenset()
    scenes: int = 0
    note: str | None = None


def shares(scenes: Mapping[str, str], share: float, seed: int) -> Shares:
    """The pairs to fit on: all those of a share, 0 … 0.9, of the scenes, which the seed draws.

    `scenes` has the scene of each pair, by the name of the pair.
    """
    if not share:
        return Shares()
    known = sorted(
        set(scenes.values()),
        key=lambda scene: hashlib.sha256(f"fit:{seed}:{scene}".encode()).digest(),
    )
    count = round(share * len(known))
    if count < fitting.LEAST_SCENES:
        return Shares(
            note=f"σ was not fitted: {count} of {len(known)} scenes would cost the calibration "
            f"more than they give; at least {fitting.LEAST_SCENES} are needed."
        )
    chosen = set(known[:count])
    names = frozenset(name for name, scene in scenes.items() if scene in chosen)
    return Shares(names, count)


class AskedPair(BaseModel):
    """A pair as it was asked for.

    Attributes:
        name: of the pair, which differs from that of its source where this makes several pairs.
        source: under which its files were uploaded.
        variant: in which way X is made from Y, where there are several.
        x: whether X was given.
        label: whether a label was given.
        prediction: the SHA-256 of the prediction that the label was drawn on, if that is known.
        group: of X.
        scene: what it was taken from.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    source: str
    variant: str | None = None
    x: bool
    label: bool
    prediction: str | None
    group: str | None = None
    scene: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _source(cls, fields: Any) -> Any:
        """Older releases kept none: the pair is what was uploaded."""
        return {"source": fields["name"], **fields} if isinstance(fields, dict) else fields

    def variants(self, made_by: Degradation | Mixture | None) -> list[AskedPair]:
        """The pairs that one upload makes: one per way in which X is made from Y."""
        return [
            self.model_copy(update={"name": variant_name(self.source, variant), "variant": variant})
            for variant in variants_of(made_by)
        ]


class CalibrationRequest(BaseModel):
    """What a calibration job was asked to do, as the job store keeps it."""

    model_config = ConfigDict(frozen=True)

    config: CalibrationConfig
    pipeline: Pipeline
    upscaler: str
    pairs: list[AskedPair]
    skipped: list[dict[str, str]]
    created_by: str
    parent: str | None = None
    settings: dict[str, str] = {}

    @classmethod
    def of(cls, job: Job) -> CalibrationRequest:
        """The request of a stored job."""
        return cls.model_validate(job.request)

    @classmethod
    def asking(
        cls,
        config: CalibrationConfig,
        pipeline: Pipeline,
        upscaler: Upscaler,
        uploads: Sequence[AskedPair],
        **facts: Any,
    ) -> CalibrationRequest:
        """What is asked of an upscaler; where no X was given it is made from Y as the config says.

        One upload has an X if all have. `facts` are further fields.
        """
        made_by = None if uploads[0].x else config.input_made_by(pipeline)
        return cls(
            config=config.model_copy(update={"degradation": made_by}),
            pipeline=pipeline,
            upscaler=upscaler.name,
            pairs=[pair for upload in uploads for pair in upload.variants(made_by)],
            settings=settings_of(upscaler),
            **facts,
        )

    def as_job(self, job: str, **about: str | None) -> Job:
        """A job of this id that does it; `about` is what lists show besides."""
        return Job(
            id=job,
            kind="calibration",
            progress=Progress(total=len(self.pairs), unit="pairs"),
            created_at=datetime.now(UTC),
            about={**self.about, **about},
            request=self.model_dump(mode="json"),
        )

    def pair(self, name: str) -> AskedPair:
        """The pair of a name."""
        return next(pair for pair in self.pairs if pair.name == name)

    @cached_property
    def shares(self) -> Shares:
        """The pairs that σ is fitted on."""
        scenes = {pair.name: pair.scene or pair.source for pair in self.pairs}
        return shares(scenes, self.config.fit_indecision, self.config.seed)

    def tells(self, name: str) -> bool:
        """Whether the pair of this name is one that tells the price."""
        return tells(name, [pair.name for pair in self.pairs])

    @property
    def about(self) -> dict[str, str | None]:
        """What lists show of it."""
        return {
            "name": self.config.name,
            "upscaler": self.upscaler,
            "metric": self.pipeline.fidelity.title,
            "labels": "people" if fidelity.needs_label(self.pipeline.fidelity) else None,
            "parent": self.parent,
            "left_out": str(len(self.skipped)),
        }
