"""A calibration: pipeline, loss curves of n pairs, provenance. Immutable once made."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibration.guarantee_kinds import Expectation, PostHoc
from trustscale_server.calibration.guarantees import LEVELS, GuaranteeSettings
from trustscale_server.calibration.manifest import Manifest, Provenance, scene_of
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal import StepCurve, fidelity
from trustscale_server.conformal.loss_curve import LossCurves
from trustscale_server.conformal.scenes import places_of
from trustscale_server.platform.errors import BadGroup, BadRequest
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.stores.calibrations import CalibrationHead

SIGMA_QUANTILES = np.linspace(0, 1, 101)
"""Levels of the per-image quantiles of σ that are kept: the mask size as a function of t."""

MAX_SUBSETS = 64
"""Subsets of groups and guarantees that a calibration keeps; each holds a curve."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """A finished calibration. `id` is derived from the content, so equal content has equal id.

    document: the manifest as JSON values as first written, so that a later version of the program,
    with more fields, finds the same id.
    loss_curves: of the spots of all pairs, one after the other. spots: how many each pair has.
    marked: what was added to each pair and what of it is invented (`conformal/added.py`); None:
    that was not looked at.
    described: the numbers that describe each X (`images/statistics.py`); None: not kept.
    """

    document: Mapping[str, Any]
    loss_curves: LossCurves
    spots: NDArray[np.int64]  # [n]
    sigma_quantiles: NDArray[np.float32]  # [n, 101]
    marked: NDArray[np.uint16] | None = field(default=None, kw_only=True)  # [n, 2, 65]
    described: NDArray[np.float32] | None = field(default=None, kw_only=True)  # [n, d]
    # Threads that ask at the same time get the same subset.
    _lock: Lock = field(default_factory=Lock, init=False)
    _subsets: OrderedDict[Hashable, Subset] = field(default_factory=OrderedDict, init=False)

    def __repr__(self) -> str:
        return f"<Calibration {self.id}>"

    @classmethod
    def from_pairs(
        cls,
        pairs: Sequence[MeasuredPair],
        *,
        upscaler: str,
        pipeline: MeasurementSpec,
        created_at: datetime | None = None,
        default_alpha: float = LEVELS["balanced"],
        guarantee: GuaranteeSettings | None = None,
        **fields: Any,
    ) -> Calibration:
        """Return a calibration of measured pairs, ordered by name; `created_at` None means now.

        Equal pairs, settings and time give an equal id, so a job passes its own time. `fields` are
        further fields of the manifest.
        """
        ordered = sorted(pairs, key=lambda pair: pair.info.name)
        guarantee = (guarantee or Expectation()).fitted_to(pipeline.indecision)
        manifest = Manifest(
            upscaler=upscaler,
            pipeline=pipeline,
            created_at=(created_at or datetime.now(UTC)).replace(microsecond=0),
            default_alpha=guarantee.default_alpha(default_alpha),
            guarantee=guarantee,
            pairs=[pair.info for pair in ordered],
            **fields,
        )
        return cls(
            manifest.model_dump(mode="json"),
            LossCurves.from_curves(curve for pair in ordered for curve in pair.loss_curves),
            np.array([len(pair.loss_curves) for pair in ordered], np.int64),
            np.array([pair.sigma_quantiles for pair in ordered], np.float32).reshape(
                len(ordered), len(SIGMA_QUANTILES)
            ),
            marked=_marked([pair.marked for pair in ordered]),
            described=_described([pair.described for pair in ordered]),
        )

    @cached_property
    def manifest(self) -> Manifest:
        """The document, checked and typed; ValidationError if it is none."""
        return Manifest.model_validate(self.document)

    @cached_property
    def id(self) -> str:
        """`cal-` and 20 hexadecimal digits of the SHA-256 of manifest and arrays."""
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode())
        for numbers in (self.spots, self.loss_curves.lengths):
            digest.update(numbers.astype("<i8").tobytes())
        for values in (self.loss_curves.levels, self.loss_curves.errors, self.sigma_quantiles):
            digest.update(values.astype("<f4").tobytes())
        if self.marked is not None:
            digest.update(self.marked.astype("<u2").tobytes())
        if self.described is not None:
            digest.update(self.described.astype("<f4").tobytes())
        return f"cal-{digest.hexdigest()[:20]}"

    @cached_property
    def weights(self) -> Sequence[Fraction]:
        """The weight of each pair in its scene; the weights of a scene sum to at most 1.

        A pair counts with its spots, and with the share of its way of making X
        (`images/degradation.py`).
        """
        shares = self.manifest.shares
        all_shares = sum(shares.values()) or 1
        weights = [Fraction()] * len(self.spots)
        for places in places_of(scene_of(pair) for pair in self.manifest.pairs):
            # A picture counts its spots once, however many ways of making its X there are.
            pictures = {
                self.manifest.pairs[place].upload: int(self.spots[place]) for place in places
            }
            whole_scene = all_shares * sum(pictures.values())
            for place in places:
                share = shares.get(self.manifest.pairs[place].variant or "", all_shares)
                weights[place] = Fraction(share * int(self.spots[place]), whole_scene)
        return weights

    @property
    def is_for_text(self) -> bool:
        """Whether it is for text."""
        return self.pipeline.fidelity.spec.is_for_text

    @property
    def pipeline(self) -> MeasurementSpec:
        return self.manifest.pipeline

    @property
    def error_bound(self) -> float:
        """The largest value of the fidelity error."""
        return fidelity.bound(self.pipeline.fidelity)

    @property
    def guarantee(self) -> GuaranteeSettings:
        """What its masks promise."""
        return self.manifest.guarantee

    @property
    def everything(self) -> Subset:
        """All pairs under the calibration's guarantee."""
        return self.subset()

    @property
    def n(self) -> int:
        """The number of scenes, which the guarantee counts, each by its weight."""
        return self.everything.n

    @property
    def curve(self) -> StepCurve:
        """The curve of all pairs under the calibration's guarantee."""
        return self.everything.curve

    @cached_property
    def groups(self) -> Mapping[str, int]:
        """The number of pairs of each group, by name."""
        counts = Counter(pair.group for pair in self.manifest.pairs if pair.group is not None)
        return dict(sorted(counts.items()))

    def applicable(
        self,
        group: str | None,
        input_class: str | None,
        kind: str | None = None,
        robust: float | None = None,
    ) -> Subset:
        """Return the pairs that answer for a group and a class, under a guarantee; see `subset`."""
        return self.subset(group, kind, robust).of_class(input_class)

    def subset(
        self, group: str | None = None, kind: str | None = None, robust: float | None = None
    ) -> Subset:
        """Return the pairs of one group, or all, under a guarantee of this kind and Γ.

        None: the calibration's own. One in expectation also gives `post_hoc`. Few are kept.

        Raises:
            BadGroup: there is no such group.
            BadRequest: it does not give this guarantee.
        """
        guarantee = self._promising(kind, robust)
        if group is not None and group not in self.groups:
            known = ", ".join(self.groups) or "none"
            raise BadGroup(
                f"The calibration has no group {group[:80]!r}; its groups: {known}.",
                groups=list(self.groups),
            )
        key = (group, guarantee.kind, guarantee.robust)
        with self._lock:
            if key not in self._subsets:
                self._subsets[key] = self._new_subset(group, guarantee)
            self._subsets.move_to_end(key)
            if len(self._subsets) > MAX_SUBSETS:
                self._subsets.popitem(last=False)
            return self._subsets[key]

    def _promising(self, kind: str | None, robust: float | None) -> GuaranteeSettings:
        settings = self.guarantee
        if kind not in {None, settings.kind}:
            if (kind, settings.kind) != ("post_hoc", "expectation"):
                raise BadRequest(
                    f"The calibration's guarantee is of the kind {settings.kind}, not {kind}: "
                    "leave `guarantee` out, or derive a calibration."
                )
            settings = PostHoc(robust=settings.robust).fitted_to(self.pipeline.indecision)
        return settings if robust is None else settings.model_copy(update={"robust": robust})

    def _new_subset(self, group: str | None, guarantee: GuaranteeSettings) -> Subset:
        everything = Subset(
            self.manifest,
            guarantee,
            self.manifest.pairs,
            self.weights,
            self.loss_curves,
            self.spots,
            self.sigma_quantiles,
            self.marked,
            self.described,
        )
        if group is None:
            return everything
        return everything.only([pair.group == group for pair in self.manifest.pairs])

    @property
    def head(self) -> CalibrationHead:
        """What lists show."""
        return CalibrationHead(
            id=self.id,
            name=self.manifest.name,
            upscaler=self.manifest.upscaler,
            created_at=self.manifest.created_at,
            n=self.n,
            min_alpha=self.everything.min_alpha,
            default_alpha=self.manifest.default_alpha,
            metric=self.pipeline.fidelity.metric,
            guarantee=self.guarantee.kind,
            delta=self.guarantee.summary().delta,
        )

    def for_upscaler(self, name: str) -> Calibration:
        """Return the same calibration for another name of its upscaler."""
        if name == self.manifest.upscaler:
            return self
        document = {**self.document, "upscaler": name}
        return replace(self, document=document)

    def with_pairs(
        self,
        pairs: Sequence[MeasuredPair],
        *,
        skipped: Sequence[dict[str, Any]] = (),
        created_by: str,
        **changes: Any,
    ) -> Calibration:
        """Return a calibration of other pairs, with these fields changed; this is its parent."""
        same = {name: value for name, value in self.manifest if name not in {"created_at", "pairs"}}
        provenance = self.manifest.provenance.model_dump(
            exclude={"software", "created_by", "parent", "request"}
        )
        fields = {
            **same,
            "skipped": [*self.manifest.skipped, *skipped],
            "provenance": Provenance(created_by=created_by, parent=self.id, **provenance),
            **changes,
        }
        return Calibration.from_pairs(pairs, **fields)

    def measured_pairs(self) -> list[MeasuredPair]:
        """Return the pairs again, for a calibration that extends this one."""
        everything = self.everything
        return [
            MeasuredPair(
                info,
                tuple(everything.spots_of(place)),
                self.sigma_quantiles[place],
                None if self.marked is None else self.marked[place],
                np.empty(0, np.float32) if self.described is None else self.described[place],
            )
            for place, info in enumerate(self.manifest.pairs)
        ]


def _marked(marked: Sequence[NDArray[np.uint16] | None]) -> NDArray[np.uint16] | None:
    """What was added to all pairs, uint16 [n, 2, 65]; None if that is unknown of one."""
    known = [of_pair for of_pair in marked if of_pair is not None]
    return np.stack(known) if known and len(known) == len(marked) else None


def _described(described: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """The numbers of all pairs, [n, d], with 8 significant bits; None if one has none."""
    if not described or len({len(numbers) for numbers in described}) > 1 or not len(described[0]):
        return None
    bits = np.ascontiguousarray(described, np.float32).view(np.uint32)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)
