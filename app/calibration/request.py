"""The settings, pairs and origin of a calibration that is to be made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.calibration.config import CalibrationConfig
from app.calibration.price import tells
from app.conformal import fidelity, fitting
from app.sampling.pipeline import Pipeline
from app.stores.base import Job


@dataclass(frozen=True, slots=True)
class Shares:
    """The names of the pairs that σ is fitted on, their scenes, and why there are none."""

    fitted: frozenset[str] = frozenset()
    scenes: int = 0
    note: str | None = None


def shares(scenes: Mapping[str, str], share: float, seed: int) -> Shares:
    """The pairs to fit on: all those of some scenes.

    Args:
        scenes: the scene of each pair, by the name of the pair.
        share: of the scenes, 0 … 0.9.
        seed: of the calibration; another one draws other scenes.
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


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What a calibration job was asked to do, as the job store keeps it."""

    config: CalibrationConfig
    pipeline: Pipeline
    upscaler: str
    pairs: Sequence[Mapping[str, Any]]
    skipped: Sequence[Mapping[str, Any]]
    created_by: str
    parent: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "config": self.config.model_dump(mode="json"),
            "pipeline": self.pipeline.model_dump(mode="json"),
            "upscaler": self.upscaler,
            "pairs": [dict(pair) for pair in self.pairs],
            "skipped": [dict(item) for item in self.skipped],
            "created_by": self.created_by,
            "parent": self.parent,
            "settings": dict(self.settings),
        }

    @classmethod
    def of(cls, job: Job) -> CalibrationRequest:
        """The request of a stored job."""
        fields = dict(job.request)
        fields["config"] = CalibrationConfig.model_validate(fields["config"])
        fields["pipeline"] = Pipeline.model_validate(fields["pipeline"])
        return cls(**fields)

    def pair(self, name: str) -> Mapping[str, Any]:
        """The pair of a name."""
        return next(pair for pair in self.pairs if pair["name"] == name)

    @property
    def shares(self) -> Shares:
        """The pairs that σ is fitted on."""
        scenes = {pair["name"]: pair.get("scene") or source_of(pair) for pair in self.pairs}
        return shares(scenes, self.config.fit_indecision, self.config.seed)

    def tells(self, name: str) -> bool:
        """Whether the pair of this name is one that tells the price."""
        return tells(name, [pair["name"] for pair in self.pairs])

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


def source_of(pair: Mapping[str, Any]) -> str:
    """The name under which the files of a pair were uploaded."""
    return str(pair.get("source", pair["name"]))
