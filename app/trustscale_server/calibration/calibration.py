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

from trustscale_server.calibration.guarantee_kinds import Expectation, PostHoc
from trustscale_server.calibration.guarantees import LEVELS, GuaranteeSettings
from trustscale_server.calibration.manifest import Manifest, Provenance, scene_of
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.calibration.pair_arrays import PairArrays
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal import StepCurve, fidelity
from trustscale_server.conformal.scenes import places_of
from trustscale_server.platform.errors import BadGroup, BadRequest
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.stores.calibrations import CalibrationHead

MAX_SUBSETS = 64
"""Subsets of groups and guarantees that a calibration keeps; each holds a curve."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """A finished calibration. `id` is derived from the content, so equal content has equal id.

    document: the manifest as JSON values as first written, so that a later version of the program,
    with more fields, finds the same id.
    arrays: of its pairs, in their order.
    """

    document: Mapping[str, Any]
    arrays: PairArrays
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
        return cls(manifest.model_dump(mode="json"), PairArrays.from_pairs(ordered))

    @cached_property
    def manifest(self) -> Manifest:
        """The document, checked and typed; ValidationError if it is none."""
        return Manifest.model_validate(self.document)

    @cached_property
    def id(self) -> str:
        """`cal-` and 20 hexadecimal digits of the SHA-256 of manifest and arrays."""
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode())
        for numbers in self.arrays.stored():
            digest.update(numbers)
        return f"cal-{digest.hexdigest()[:20]}"

    @cached_property
    def weights(self) -> Sequence[Fraction]:
        """The weight of each pair in its scene; the weights of a scene sum to at most 1.

        A pair counts with its spots, and with the share of its way of making X
        (`kinds/degradation.py`).
        """
        shares = self.manifest.shares
        all_shares = sum(shares.values()) or 1
        spots = self.arrays.spots.tolist()
        weights = [Fraction()] * len(spots)
        for places in places_of(scene_of(pair) for pair in self.manifest.pairs):
            # A picture counts its spots once, however many ways of making its X there are.
            pictures = {self.manifest.pairs[place].upload: spots[place] for place in places}
            whole_scene = all_shares * sum(pictures.values())
            for place in places:
                share = shares.get(self.manifest.pairs[place].variant or "", all_shares)
                weights[place] = Fraction(share * spots[place], whole_scene)
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
            self.manifest, guarantee, self.manifest.pairs, self.weights, self.arrays
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
        pairs = self.manifest.pairs
        return [self.arrays.pair(place, info) for place, info in enumerate(pairs)]
