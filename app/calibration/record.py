"""A calibration: pipeline, loss curves of n pairs, provenance. Immutable once made."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibration.guarantee import (
    COVERED,
    Applicability,
    ErrorQuantile,
    Expectation,
    GuaranteeSettings,
    PostHoc,
    Sizes,
)
from trustscale_server.calibration.manifest import (
    Manifest,
    MeasuredPair,
    PairInfo,
    Provenance,
    scene_of,
)
from trustscale_server.conformal import LossCurve, StepCurve, fidelity
from trustscale_server.conformal.backtest import mean_losses, trusted_shares
from trustscale_server.conformal.curve import places_of
from trustscale_server.conformal.evidence import p_value
from trustscale_server.errors import BadGroup, BadRequest
from trustscale_server.images.facts import UPLOAD, InputFeatures, classify
from trustscale_server.sampling.pipeline import Pipeline
from trustscale_server.stores.base import CalibrationHead

UNUSUAL = 0.02
"""Typicality up to this earns a warning, as one calibration-like image in fifty does."""

SIGMA_QUANTILES = np.linspace(0, 1, 101)
"""Levels of the per-image quantiles of σ that are kept: the mask size as a function of t."""

MOST_PARTS = 64
"""Parts that a calibration caches; each holds a curve."""

_MADE_ANEW: Final = {"created_at", "pairs"}


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """A finished calibration. `id` is derived from the content, so equal content has equal id.

    document: the manifest as JSON values as first written, so that a later version of the program,
    with more fields, finds the same id.
    partitions: its groups, classes and sizes, each as a calibration.
    """

    document: Mapping[str, Any]
    loss_curves: Sequence[LossCurve]
    sigma_quantiles: NDArray[np.float32]  # [n, 101]
    partitions: Partitions = field(init=False)

    def __post_init__(self) -> None:
        # Not a cached property: threads that ask at the same time would get different caches.
        object.__setattr__(self, "partitions", Partitions(self))

    def __repr__(self) -> str:
        return f"<Calibration {self.id}>"

    @classmethod
    def from_pairs(
        cls,
        pairs: Sequence[MeasuredPair],
        *,
        upscaler: str,
        pipeline: Pipeline,
        created_at: datetime | None = None,
        default_alpha: float = 0.1,
        guarantee: GuaranteeSettings | None = None,
        **facts: Any,
    ) -> Calibration:
        """A calibration of measured pairs, ordered by name; `created_at` None means now.

        Equal pairs, settings and time give an equal id, so a job passes its own time. `facts` are
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
            **facts,
        )
        return cls(
            manifest.model_dump(mode="json"),
            [pair.loss_curve for pair in ordered],
            np.array([pair.sigma_quantiles for pair in ordered], np.float32).reshape(
                len(ordered), len(SIGMA_QUANTILES)
            ),
        )

    @cached_property
    def manifest(self) -> Manifest:
        """The document, checked and typed; ValidationError if it is none."""
        return Manifest.model_validate(self.document)

    @cached_property
    def report(self) -> Report:
        """What it says about itself and about pictures besides their masks."""
        return Report(self)

    @cached_property
    def id(self) -> str:
        """`cal-` and 20 hexadecimal digits of the SHA-256 of manifest and arrays."""
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode())
        for loss_curve in self.loss_curves:
            digest.update(len(loss_curve).to_bytes(8, "little"))
            digest.update(loss_curve.levels.astype("<f4").tobytes())
            digest.update(loss_curve.errors.astype("<f4").tobytes())
        digest.update(self.sigma_quantiles.astype("<f4").tobytes())
        return f"cal-{digest.hexdigest()[:20]}"

    @property
    def n(self) -> int:
        """Number of scenes, which the guarantee counts."""
        return len(self.members)

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.loss_curves)

    @cached_property
    def scenes(self) -> Sequence[tuple[str, str]]:
        """The scene of each pair."""
        return [scene_of(pair) for pair in self.manifest.pairs]

    @cached_property
    def members(self) -> Sequence[Sequence[int]]:
        """The places of the pairs of each scene."""
        return places_of(self.scenes)

    @cached_property
    def counted(self) -> Sequence[LossCurve]:
        """What its guarantee counts of each pair, as a function of the threshold."""
        return [self.guarantee.loss(loss_curve) for loss_curve in self.loss_curves]

    def losses(self, threshold: float) -> list[float]:
        """The mean loss of each scene's pairs inside {σ < t}."""
        return mean_losses(self.counted, self.members, threshold)

    @cached_property
    def highest(self) -> float:
        """The largest σ of all pairs."""
        return float(self.sigma_quantiles[:, -1].max()) if self.pairs else 0.0

    @property
    def pipeline(self) -> Pipeline:
        return self.manifest.pipeline

    @cached_property
    def error_bound(self) -> float:
        """The largest value of the fidelity error."""
        return fidelity.bound(self.pipeline.fidelity)

    @property
    def bound(self) -> float:
        """B, the largest loss that its guarantee counts."""
        return self.guarantee.largest(self.error_bound)

    @property
    def guarantee(self) -> GuaranteeSettings:
        """What its masks promise."""
        return self.manifest.guarantee

    @cached_property
    def curve(self) -> StepCurve:
        """The curve of all pairs under the calibration's guarantee.

        Scenes are in the order of hashes of their content, which does not depend on their losses;
        names may.
        """

        def key(place: int) -> bytes:
            pair = self.manifest.pairs[place]
            return hashlib.sha256(f"{pair.x_sha256} {pair.y_sha256}".encode()).digest()

        def key_of_scene(places: Sequence[int]) -> bytes:
            keys = sorted(map(key, places))
            return keys[0] if len(keys) == 1 else hashlib.sha256(b"".join(keys)).digest()

        order = [i for places in sorted(self.members, key=key_of_scene) for i in places]
        return self.guarantee.curve(
            [self.loss_curves[i] for i in order],
            self.error_bound,
            scenes=[self.scenes[i] for i in order],
            highest=self.highest,
        )

    @cached_property
    def min_alpha(self) -> float:
        """That of its curve, without making it."""
        return self.guarantee.min_alpha(self.error_bound, self.n)

    def minimal_n(self, alpha: float) -> int:
        """The number of scenes below which its guarantee trusts no pixel at α."""
        return self.guarantee.minimal_n(alpha, self.error_bound)

    def usual(self, alpha: float) -> ErrorQuantile | None:
        """What few pictures exceed inside the mask of α; None: its guarantee does not say."""
        scenes = [[self.loss_curves[place] for place in places] for places in self.members]
        return self.guarantee.usual(self.curve, scenes, alpha)

    @property
    def head(self) -> CalibrationHead:
        """What lists show."""
        return CalibrationHead(
            id=self.id,
            name=self.manifest.name,
            upscaler=self.manifest.upscaler,
            created_at=self.manifest.created_at,
            n=self.n,
            min_alpha=self.min_alpha,
            default_alpha=self.manifest.default_alpha,
            metric=self.pipeline.fidelity.metric,
            guarantee=self.guarantee.kind,
            delta=self.guarantee.facts()["delta"],
        )

    def for_upscaler(self, name: str) -> Calibration:
        """The same calibration for another name of its upscaler."""
        if name == self.manifest.upscaler:
            return self
        document = {**self.document, "upscaler": name}
        return Calibration(document, self.loss_curves, self.sigma_quantiles)

    def with_pairs(
        self,
        pairs: Sequence[MeasuredPair],
        *,
        skipped: Sequence[dict[str, Any]] = (),
        created_by: str,
        **changes: Any,
    ) -> Calibration:
        """A calibration of other pairs, with these fields changed; this is its parent."""
        facts = {name: value for name, value in self.manifest if name not in _MADE_ANEW}
        provenance = self.manifest.provenance.model_dump(
            exclude={"software", "created_by", "parent", "request"}
        )
        facts["skipped"] = [*self.manifest.skipped, *skipped]
        facts["provenance"] = Provenance(created_by=created_by, parent=self.id, **provenance)
        return Calibration.from_pairs(pairs, **{**facts, **changes})

    def measured_pairs(self) -> list[MeasuredPair]:
        """The pairs again, for a calibration that extends this one."""
        return [
            MeasuredPair(info, loss_curve, quantiles)
            for info, loss_curve, quantiles in zip(
                self.manifest.pairs, self.loss_curves, self.sigma_quantiles, strict=True
            )
        ]

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of the pairs, and which outputs they speak about."""
        scenes: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
        for places in self.members:
            for pair in (self.manifest.pairs[place] for place in places):
                scenes[pair.width, pair.height] += Fraction(1, len(places))
        return Sizes(scenes)

    def applicability(self, height: int, width: int) -> Applicability:
        """How the guarantee speaks about an output of this size."""
        return self.sizes.speaking_about(height, width, self.pipeline.indecision).how


class Partitions:
    """Divide a calibration by group, class of input and size, and by kind of guarantee."""

    def __init__(self, whole: Calibration) -> None:
        self._whole = whole
        self._cache = _Cache()

    @cached_property
    def groups(self) -> Mapping[str, int]:
        """The number of pairs of each group, by name."""
        counts = Counter(
            pair.group for pair in self._whole.manifest.pairs if pair.group is not None
        )
        return dict(sorted(counts.items()))

    @cached_property
    def classes(self) -> Mapping[str, int]:
        """The number of pairs of each covered class: with `COVERED` scenes, or a quarter of all."""
        scenes: dict[str, set[tuple[str, str]]] = defaultdict(set)
        counts: Counter[str] = Counter()
        for pair, scene in zip(self._whole.manifest.pairs, self._whole.scenes, strict=True):
            if (name := pair.input_class) is not None:
                counts[name] += 1
                scenes[name].add(scene)
        least = min(COVERED, -(-self._whole.n // 4))
        return {name: counts[name] for name in sorted(counts) if len(scenes[name]) >= least}

    def class_of(self, facts: InputFeatures) -> str | None:
        """The class of an upload under the calibration's rule; None without a rule."""
        rule = self._whole.pipeline.input_rule
        return None if rule is None else classify(rule, facts)

    def covers(self, facts: InputFeatures) -> bool:
        """Whether the X of some pairs were like an upload, as far as classes show."""
        name = self.class_of(facts)
        return name is None or name in self.classes

    def under(self, kind: str | None) -> Calibration:
        """The same for a request that wants a guarantee of this kind; None: its own.

        One in expectation also gives `post_hoc`. BadRequest: it does not give this one.
        """
        if kind in {None, self._whole.guarantee.kind}:
            return self._whole
        if (kind, self._whole.guarantee.kind) != ("post_hoc", "expectation"):
            raise BadRequest(
                f"The calibration's guarantee is of the kind {self._whole.guarantee.kind}, "
                f"not {kind}: leave `guarantee` out, or derive a calibration."
            )

        def made() -> Calibration:
            settings = PostHoc().fitted_to(self._whole.pipeline.indecision)
            document = {**self._whole.document, "guarantee": settings.model_dump(mode="json")}
            return Calibration(document, self._whole.loss_curves, self._whole.sigma_quantiles)

        return self._cache.get(("guarantee", kind), made)

    def of_class(self, name: str | None) -> Calibration:
        """The part of one class of inputs; all of it if that is not covered, or None."""
        if name not in self.classes:
            return self._whole
        return self._part(
            ("class", name), [pair.input_class == name for pair in self._whole.manifest.pairs]
        )

    def part(
        self, group: str | None, input_class: str | None, size: tuple[int, int]
    ) -> Calibration:
        """The part that speaks about a group, a class and a size (height, width)."""
        return self.of_group(group).partitions.of_class(input_class).partitions.of_size(*size)

    def parts(self) -> list[tuple[str, Calibration]]:
        """The parts of its groups, of its classes, and of both together, by name."""
        named = []
        for group in (None, *self.groups):
            of_group = self.of_group(group)
            if group is not None:
                named.append((group, of_group))
            named += [
                (name if group is None else f"{group}, {name}", of_group.partitions.of_class(name))
                for name in of_group.partitions.classes
            ]
        return named

    def of_group(self, group: str | None) -> Calibration:
        """The part of one group; None: all of it; BadGroup if no pair is of the group."""
        if group is None:
            return self._whole
        if group not in self.groups:
            known = ", ".join(self.groups) or "none"
            raise BadGroup(
                f"The calibration has no group {group[:80]!r}; its groups: {known}.",
                groups=list(self.groups),
            )
        return self._part(("group", group), [p.group == group for p in self._whole.manifest.pairs])

    def _part(self, key: tuple[str, Hashable], belongs: Sequence[bool]) -> Calibration:
        def made() -> Calibration:
            places = [place for place, is_part in enumerate(belongs) if is_part]
            pairs = self._whole.document["pairs"]
            return Calibration(
                {**self._whole.document, "pairs": [pairs[i] for i in places]},
                [self._whole.loss_curves[i] for i in places],
                self._whole.sigma_quantiles[places],
            )

        return self._cache.get(key, made)

    def of_size(self, height: int, width: int) -> Calibration:
        """The part whose scenes speak about an output of this size; all if none does."""
        sizes = self._whole.sizes.speaking_about(
            height, width, self._whole.pipeline.indecision
        ).sizes
        belongs = [(pair.width, pair.height) in sizes for pair in self._whole.manifest.pairs]
        return self._whole if all(belongs) else self._part(("size", sizes), belongs)


class Report:
    """Describe a calibration, how typical a picture is of it, and how much its masks trust."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration

    @property
    def made_of(self) -> str:
        """Short description of the data set."""
        note = self._calibration.manifest.provenance.note or ""
        pictures = (
            f"{self._calibration.n} scenes"
            if self._calibration.pairs > self._calibration.n
            else f"{self._calibration.n} pictures"
        )
        first = note.partition("\n")[0]
        # How σ was fitted is nothing that pictures show.
        shown = "" if first.startswith("σ ") else first
        return shown or f"{pictures}, of which nothing more is said"

    def typicality(self, mean_log_sigma: float, facts: InputFeatures | None = None) -> float:
        """The conformal p-value of an image among one of each calibration scene, in (0, 1].

        From how strange the learned table finds X (`kinds.py`); of data from the facts about X and
        the mean log σ; without kept facts from the latter alone, on both sides. For an image of a
        new scene that is exchangeable with these, P(p ≤ u) ≤ u.
        """
        if facts is not None and self._calibration.pipeline.input_rule == UPLOAD:
            strange = [pair.facts["strangeness"] for pair in self.one_of_each if pair.facts]
            if len(strange) == self._calibration.n:
                return (1 + sum(one >= facts.kind.strangeness for one in strange)) / (
                    1 + len(strange)
                )
        if facts is not None and len(self._known):
            numbers, kept = facts.numbers(), self._calibration.manifest.pairs[0].facts or {}
            new = np.array([*(numbers[name] for name in kept), mean_log_sigma])
            return p_value(self._known, new)
        values = np.array([pair.mean_log_sigma for pair in self.one_of_each])
        rank = 1 + min((values >= mean_log_sigma).sum(), (values <= mean_log_sigma).sum())
        return float(min(1.0, 2 * rank / (self._calibration.n + 1)))

    @cached_property
    def one_of_each(self) -> Sequence[PairInfo]:
        """One pair of each scene, chosen by a digest of its file, not by what it shows.

        Only these are exchangeable with an image of a new scene.
        """
        pairs = self._calibration.manifest.pairs
        return [
            min((pairs[place] for place in places), key=lambda pair: (pair.x_sha256, pair.name))
            for places in self._calibration.members
        ]

    @cached_property
    def _known(self) -> NDArray[np.float64]:
        """Facts and mean log σ of `one_of_each`, float64 [n, f]; no rows if one has no facts."""
        found = [
            [*pair.facts.values(), pair.mean_log_sigma]
            for pair in self.one_of_each
            if pair.facts is not None
        ]
        return np.array(found) if len(found) == self._calibration.n else np.empty((0, 0))

    @property
    def out_of_distribution(self) -> float:
        """Up to this typicality a picture earns a warning; no more exchangeable ones do by chance.

        With few scenes, a quarter more than what the most unlike image gets.
        """
        return max(UNUSUAL, (1.25 if len(self._known) else 2.5) / (self._calibration.n + 1))

    def mean_trusted_fraction(self, threshold: float) -> float:
        """Mean over the scenes of the share of pixels with σ < t, from the stored quantiles."""
        if not self._calibration.pairs:
            return float("nan")
        return float(self.trusted_fractions(threshold).mean())

    def trusted_fractions(self, threshold: float) -> NDArray[np.float64]:
        """The same of each scene, in the order of `members`."""
        return trusted_shares(
            self._calibration.sigma_quantiles, threshold, self._calibration.members
        )


class _Cache:
    """The `MOST_PARTS` parts of a calibration that were used last.

    The sizes of uploads choose parts, so any number of them is asked for. Threads that ask for one
    at the same time get the same.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._parts: OrderedDict[Hashable, Calibration] = OrderedDict()

    def __len__(self) -> int:
        return len(self._parts)

    def get(self, key: Hashable, make: Callable[[], Calibration]) -> Calibration:
        """Return the part of this key, which the first request makes."""
        with self._lock:
            part = self._parts.get(key) or make()
            self._parts[key] = part
            self._parts.move_to_end(key)
            if len(self._parts) > MOST_PARTS:
                self._parts.popitem(last=False)
            return part
