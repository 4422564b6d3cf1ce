"""A calibration as a fact: pipeline, staircases of n pairs, provenance. Immutable once made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app import __version__
from app.conformal import RiskCurve, Staircase, fidelity
from app.conformal.backtest import trusted_share
from app.images.degrade import Degradation
from app.pipeline import Pipeline
from app.stores.base import CalibrationHead

SIGMA_QUANTILES = np.linspace(0, 1, 101)
"""Levels of the per-image quantiles of σ that are kept: the mask size as a function of t."""

Applicability = Literal["exact", "per_window", "unknown"]


class PairInfo(BaseModel):
    """What is kept of one pair besides its staircase. Sizes are those of Y in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    x_sha256: str
    y_sha256: str
    width: int
    height: int
    seed: int
    mean_log_sigma: float


class Provenance(BaseModel):
    """Where a calibration comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    software: str = f"trustscale {__version__}"
    created_by: str = "local"
    parent: str | None = None
    note: str | None = None
    attributions: list[str] = Field(default_factory=list)


class Manifest(BaseModel):
    """Everything but the arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    upscaler: str
    created_at: datetime
    pipeline: Pipeline
    default_alpha: float = Field(0.1, gt=0)
    degradation: Degradation | None = None
    seed: int = 0
    pairs: list[PairInfo]
    skipped: list[dict[str, Any]] = Field(default_factory=list)
    provenance: Provenance = Provenance()


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """One pair after generation: all that the calibration needs to know of it."""

    info: PairInfo
    staircase: Staircase
    sigma_quantiles: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Calibration:
    """A finished calibration. `id` is derived from the content, so equal content has equal id.

    `document` is the manifest as JSON values, just as it was first written: a later version of the
    program, with more fields, still finds the same id.
    """

    document: Mapping[str, Any]
    staircases: Sequence[Staircase]
    sigma_quantiles: NDArray[np.float32]  # [n, 101]

    @classmethod
    def from_pairs(
        cls,
        pairs: Sequence[MeasuredPair],
        *,
        upscaler: str,
        pipeline: Pipeline,
        name: str | None = None,
        default_alpha: float = 0.1,
        degradation: Degradation | None = None,
        seed: int = 0,
        skipped: Sequence[dict[str, Any]] = (),
        provenance: Provenance | None = None,
        created_at: datetime | None = None,
    ) -> Calibration:
        """A calibration of measured pairs, ordered by name; `created_at` None means now.

        The same pairs, settings and time give the same id: a job that is run twice passes its own
        time of creation, and so publishes one calibration.
        """
        ordered = sorted(pairs, key=lambda pair: pair.info.name)
        manifest = Manifest(
            name=name,
            upscaler=upscaler,
            created_at=(created_at or datetime.now(UTC)).replace(microsecond=0),
            pipeline=pipeline,
            default_alpha=default_alpha,
            degradation=degradation,
            seed=seed,
            pairs=[pair.info for pair in ordered],
            skipped=list(skipped),
            provenance=provenance or Provenance(),
        )
        return cls(
            manifest.model_dump(mode="json"),
            [pair.staircase for pair in ordered],
            np.array([pair.sigma_quantiles for pair in ordered], np.float32).reshape(
                len(ordered), len(SIGMA_QUANTILES)
            ),
        )

    @cached_property
    def manifest(self) -> Manifest:
        """The document, checked and typed.

        Raises:
            ValidationError: it is not a manifest.
        """
        return Manifest.model_validate(self.document)

    @cached_property
    def id(self) -> str:
        """`cal-` and 20 hexadecimal digits of the SHA-256 of manifest and arrays."""
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode())
        for staircase in self.staircases:
            digest.update(len(staircase).to_bytes(8, "little"))
            digest.update(staircase.levels.astype("<f4").tobytes())
            digest.update(staircase.errors.astype("<f4").tobytes())
        digest.update(self.sigma_quantiles.astype("<f4").tobytes())
        return f"cal-{digest.hexdigest()[:20]}"

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.staircases)

    @property
    def pipeline(self) -> Pipeline:
        return self.manifest.pipeline

    @cached_property
    def bound(self) -> float:
        """B of the fidelity error."""
        return fidelity.bound(self.pipeline.fidelity)

    @cached_property
    def curve(self) -> RiskCurve:
        """The risk curve of all pairs."""
        return RiskCurve.from_staircases(self.staircases, self.bound)

    @property
    def head(self) -> CalibrationHead:
        """What lists show."""
        return CalibrationHead(
            id=self.id,
            name=self.manifest.name,
            upscaler=self.manifest.upscaler,
            created_at=self.manifest.created_at,
            n=self.n,
            min_alpha=self.curve.min_alpha,
            default_alpha=self.manifest.default_alpha,
            metric=self.pipeline.fidelity.metric,
        )

    def for_upscaler(self, name: str) -> Calibration:
        """The same calibration for an upscaler of another name and the same fingerprint."""
        if name == self.manifest.upscaler:
            return self
        document = {**self.document, "upscaler": name}
        return Calibration(document, self.staircases, self.sigma_quantiles)

    def with_pairs(
        self, pairs: Sequence[MeasuredPair], *, skipped: Sequence[dict[str, Any]], created_by: str
    ) -> Calibration:
        """A new calibration of other pairs under the same settings; this one is its parent."""
        manifest = self.manifest
        return Calibration.from_pairs(
            pairs,
            upscaler=manifest.upscaler,
            pipeline=manifest.pipeline,
            name=manifest.name,
            default_alpha=manifest.default_alpha,
            degradation=manifest.degradation,
            seed=manifest.seed,
            skipped=[*manifest.skipped, *skipped],
            provenance=Provenance(
                created_by=created_by,
                parent=self.id,
                note=manifest.provenance.note,
                attributions=manifest.provenance.attributions,
            ),
        )

    def measured_pairs(self) -> list[MeasuredPair]:
        """The pairs again, for a calibration that extends this one."""
        return [
            MeasuredPair(info, staircase, quantiles)
            for info, staircase, quantiles in zip(
                self.manifest.pairs, self.staircases, self.sigma_quantiles, strict=True
            )
        ]

    def typicality(self, mean_log_sigma: float) -> float:
        """Two-sided conformal p-value of an image's mean log σ among the calibration images.

        In (0, 1]. For an image exchangeable with the pairs, P(p ≤ u) ≤ u; a small value says that
        the image is unlike them, easier or harder.
        """
        values = np.array([pair.mean_log_sigma for pair in self.manifest.pairs])
        rank = 1 + min((values >= mean_log_sigma).sum(), (values <= mean_log_sigma).sum())
        return float(min(1.0, 2 * rank / (self.n + 1)))

    def applicability(self, height: int, width: int) -> Applicability:
        """Whether the guarantee speaks about an output of this size.

        `exact` within the calibrated sizes, `per_window` for larger outputs (the bound then holds
        for any one window of a calibrated size), `unknown` when a side is smaller than all.
        """
        heights = [pair.height for pair in self.manifest.pairs]
        widths = [pair.width for pair in self.manifest.pairs]
        if not heights or height < min(heights) or width < min(widths):
            return "unknown"
        if height <= max(heights) and width <= max(widths):
            return "exact"
        return "per_window"

    def mean_trusted_fraction(self, threshold: float) -> float:
        """Mean over the pairs of the share of pixels with σ < t, from the stored quantiles."""
        return trusted_share(self.sigma_quantiles, threshold) if self.n else float("nan")
