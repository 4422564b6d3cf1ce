"""A calibration as a fact: pipeline, staircases of n pairs, provenance. Immutable once made."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from app import __version__
from app.calibration.guarantee import GuaranteeSettings
from app.conformal import Staircase, StepCurve, fidelity
from app.conformal.backtest import trusted_share
from app.errors import BadGroup
from app.images.degrade import Degradation
from app.sampling.pipeline import Pipeline
from app.stores.base import CalibrationHead

SIGMA_QUANTILES = np.linspace(0, 1, 101)
"""Levels of the per-image quantiles of σ that are kept: the mask size as a function of t."""

Applicability = Literal["exact", "per_window", "unknown"]


class _Compatible(BaseModel):
    """A part of the manifest: what has its default is left out if older versions do not know it.

    A calibration that makes no use of what is new thus keeps its form, and can be read by them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        for name in {"group", "guarantee"} & fields.keys():
            if getattr(self, name) == type(self).model_fields[name].default:
                del fields[name]
        return fields


class PairInfo(_Compatible):
    """What is kept of one pair besides its staircase. Sizes are those of Y in pixels.

    The group is a function of X that was chosen before anything was measured: a camera, a subject.
    """

    name: str
    x_sha256: str
    y_sha256: str
    width: int
    height: int
    seed: int
    mean_log_sigma: float
    group: str | None = None


class Provenance(BaseModel):
    """Where a calibration comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    software: str = f"trustscale {__version__}"
    created_by: str = "local"
    parent: str | None = None
    note: str | None = None
    attributions: list[str] = Field(default_factory=list)


class Manifest(_Compatible):
    """Everything but the arrays."""

    name: str | None = None
    upscaler: str
    created_at: datetime
    pipeline: Pipeline
    default_alpha: float = Field(0.1, gt=0)
    guarantee: GuaranteeSettings = GuaranteeSettings()
    degradation: Degradation | None = None
    seed: int = 0
    pairs: list[PairInfo]
    skipped: list[dict[str, Any]] = Field(default_factory=list)
    provenance: Provenance = Provenance()


# How the reason of a pair begins that an admin has taken out; who that was follows.
REMOVED = "removed by "


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
        guarantee: GuaranteeSettings | None = None,
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
            guarantee=guarantee or GuaranteeSettings(),
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

    @property
    def guarantee(self) -> GuaranteeSettings:
        """What its masks promise."""
        return self.manifest.guarantee

    @cached_property
    def curve(self) -> StepCurve:
        """The curve of all pairs under the calibration's guarantee.

        They are taken in the order of the hashes of their content, which tells nothing about their
        losses. Names would: those of one folder, camera or day stand together.
        """

        def key(place: int) -> bytes:
            pair = self.manifest.pairs[place]
            return hashlib.sha256(f"{pair.x_sha256} {pair.y_sha256}".encode()).digest()

        order = sorted(range(self.n), key=key)
        return self.guarantee.curve([self.staircases[i] for i in order], self.bound)

    def minimal_n(self, alpha: float) -> int:
        """The number of pairs below which its guarantee trusts no pixel at α."""
        return self.guarantee.minimal_n(alpha, self.bound)

    @cached_property
    def groups(self) -> Mapping[str, int]:
        """The number of pairs of each group, by name; empty without groups."""
        counts = Counter(pair.group for pair in self.manifest.pairs if pair.group is not None)
        return dict(sorted(counts.items()))

    def of_group(self, group: str | None) -> Calibration:
        """The part of one group, whose curve speaks about images of that group; None: all of it.

        The part has another id; results name the whole.

        Raises:
            BadGroup: no pair is of this group.
        """
        if group is None:
            return self
        if group not in self.groups:
            known = ", ".join(self.groups) or "none"
            raise BadGroup(
                f"The calibration has no group {group[:80]!r}; its groups: {known}.",
                groups=list(self.groups),
            )
        if group not in self._parts:
            places = [i for i, pair in enumerate(self.manifest.pairs) if pair.group == group]
            pairs = self.document["pairs"]
            self._parts[group] = Calibration(
                {**self.document, "pairs": [pairs[i] for i in places]},
                [self.staircases[i] for i in places],
                self.sigma_quantiles[places],
            )
        return self._parts[group]

    @cached_property
    def _parts(self) -> dict[str, Calibration]:
        return {}

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
            metric=self.pipeline.fidelity.title,
            guarantee=self.guarantee.kind,
            delta=self.guarantee.facts()["delta"],
        )

    def for_upscaler(self, name: str) -> Calibration:
        """The same calibration for an upscaler of another name and the same fingerprint."""
        if name == self.manifest.upscaler:
            return self
        document = {**self.document, "upscaler": name}
        return Calibration(document, self.staircases, self.sigma_quantiles)

    def with_pairs(
        self,
        pairs: Sequence[MeasuredPair],
        *,
        skipped: Sequence[dict[str, Any]] = (),
        created_by: str,
        name: str | None = None,
        guarantee: GuaranteeSettings | None = None,
    ) -> Calibration:
        """A new calibration of other pairs, name or guarantee; this one is its parent."""
        manifest = self.manifest
        return Calibration.from_pairs(
            pairs,
            upscaler=manifest.upscaler,
            pipeline=manifest.pipeline,
            name=name or manifest.name,
            default_alpha=manifest.default_alpha,
            guarantee=guarantee or manifest.guarantee,
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

        `exact` if some pair is as large in both directions, `per_window` for larger outputs (the
        bound then holds for any one window of a calibrated size), `unknown` when a side is smaller
        than all, and for larger outputs if none of the pairs fits into them, or if σ looks at the
        whole image: in a window it is then not what it would be in an image of that size.
        """
        sizes = {(pair.height, pair.width) for pair in self.manifest.pairs}
        if not sizes or height < min(h for h, _ in sizes) or width < min(w for _, w in sizes):
            return "unknown"
        if any(height <= h and width <= w for h, w in sizes):
            return "exact"
        fits = any(h <= height and w <= width for h, w in sizes)
        return "per_window" if fits and self.pipeline.indecision.local else "unknown"

    def mean_trusted_fraction(self, threshold: float) -> float:
        """Mean over the pairs of the share of pixels with σ < t, from the stored quantiles."""
        return trusted_share(self.sigma_quantiles, threshold) if self.n else float("nan")
