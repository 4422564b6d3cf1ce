"""A calibration: pipeline, loss curves of n pairs, provenance. Immutable once made.

**Its file**, for export, import and the store, is a zip archive with four members, readable with
standard tools:

- `calibration.json`: format, version, id, the manifest, and the SHA-256 of the other members;
- `loss_curves.npy`: [2, N], the levels and errors of the spots of all pairs one after the other;
- `lengths.npy`: [1, m], the number of breakpoints of each spot;
- `pairs.npy`: [n, 1 + 101], per pair the number of its spots, and the quantiles of σ.

Floats have 8 significant bits, so they are the upper halves of float32 (an error that counts in
full is rounded up, and cut at the bound on reading). Of an array of 16 bits [a, b] a member holds
uint8 [a, 2, b]: of each row the differences, modulo 2¹⁶, byte by byte. They deflate well.

The id is a digest of the content; checked on reading, it detects damage and edits.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import accumulate
from threading import Lock
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from trustscale_server.calibration.guarantee import (
    COVERED,
    LEVELS,
    ErrorQuantile,
    Expectation,
    GuaranteeSettings,
    Manifest,
    MeasuredPair,
    PairInfo,
    PostHoc,
    Provenance,
    scene_of,
)
from trustscale_server.conformal import LossCurve, StepCurve, fidelity
from trustscale_server.conformal.curve import (
    LossCurves,
    by_scene,
    coarse_up,
    highest_trusted,
    places_of,
    trusted_shares,
)
from trustscale_server.conformal.evidence import outlier_p_value
from trustscale_server.conformal.fidelity import largest_float32
from trustscale_server.errors import BadCalibration, BadGroup, BadRequest, reason_of
from trustscale_server.images.description import UPLOAD, InputFeatures, class_of_way, classify
from trustscale_server.sampling.pipeline import Pipeline
from trustscale_server.stores.base import CalibrationHead

# --- A calibration: pipeline, loss curves of n pairs, provenance. Immutable once made.

UNUSUAL = 0.02
"""Typicality up to this earns a warning, as one calibration-like image in fifty does."""

SIGMA_QUANTILES = np.linspace(0, 1, 101)
"""Levels of the per-image quantiles of σ that are kept: the mask size as a function of t."""

MOST_PARTS = 64
"""Parts that a calibration caches; each holds a curve."""

_TABLE: Final = "strangeness"
"""The fact about X that the learned table gives."""

_MADE_ANEW: Final = {"created_at", "pairs"}


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """A finished calibration. `id` is derived from the content, so equal content has equal id.

    document: the manifest as JSON values as first written, so that a later version of the program,
    with more fields, finds the same id.
    loss_curves: of the spots of all pairs, one after the other. spots: how many each pair has.
    shares: what each pair counts of its scene (`app/conformal/curve.py`); None: as its way of
    making X does.
    partitions: its groups and classes, each as a calibration.
    """

    document: Mapping[str, Any]
    loss_curves: LossCurves
    spots: NDArray[np.int64]  # [n]
    sigma_quantiles: NDArray[np.float32]  # [n, 101]
    shares: Sequence[Fraction] | None = None
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
        default_alpha: float = LEVELS["balanced"],
        guarantee: GuaranteeSettings | None = None,
        **facts: Any,
    ) -> Calibration:
        """Return a calibration of measured pairs, ordered by name; `created_at` None means now.

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
            LossCurves.of(curve for pair in ordered for curve in pair.loss_curves),
            np.array([len(pair.loss_curves) for pair in ordered], np.int64),
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
        """The description of the calibration, and of pictures besides their masks."""
        return Report(self)

    @cached_property
    def id(self) -> str:
        """`cal-` and 20 hexadecimal digits of the SHA-256 of manifest and arrays."""
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode())
        for numbers in (self.spots, self.loss_curves.lengths):
            digest.update(numbers.astype("<i8").tobytes())
        for values in (self.loss_curves.levels, self.loss_curves.errors, self.sigma_quantiles):
            digest.update(values.astype("<f4").tobytes())
        return f"cal-{digest.hexdigest()[:20]}"

    @cached_property
    def n(self) -> int:
        """Number of scenes, which the guarantee counts, each by its weight."""
        return math.floor(sum(sum(self.weights[i] for i in places) for places in self.members))

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.spots)

    @cached_property
    def scenes(self) -> Sequence[tuple[str, str]]:
        """The scene of each pair."""
        return [scene_of(pair) for pair in self.manifest.pairs]

    @cached_property
    def members(self) -> Sequence[Sequence[int]]:
        """The places of the pairs of each scene."""
        return places_of(self.scenes)

    @cached_property
    def weights(self) -> Sequence[Fraction]:
        """The weight of each pair in its scene; those of a scene sum to at most 1.

        A pair counts with its spots, and with the share of its way of making X
        (`app/images/degrade.py`).
        """
        if self.shares is not None:
            return self.shares
        shares = self.manifest.shares
        everything = sum(shares.values()) or 1
        weights = [Fraction()] * self.pairs
        for places in self.members:
            # Of each picture so many spots, whatever ways of making its X there are.
            pictures = {
                self.manifest.pairs[place].source: int(self.spots[place]) for place in places
            }
            all_of_it = everything * sum(pictures.values())
            for place in places:
                share = shares.get(self.manifest.pairs[place].variant or "", everything)
                weights[place] = Fraction(share * int(self.spots[place]), all_of_it)
        return weights

    def spots_of(self, place: int) -> list[LossCurve]:
        """Return the loss curves of the spots of one pair."""
        end = int(self._ends[place])
        return [self.loss_curves[k] for k in range(end - int(self.spots[place]), end)]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.spots)

    def losses(self, threshold: float) -> NDArray[np.float64]:
        """Return the mean loss of each pair's spots inside {σ < t}, float64 [pairs]."""
        losses = self.loss_curves.losses_below(threshold)
        counted = np.array([self.guarantee.loss_of(loss) for loss in losses.tolist()])
        return np.asarray(np.add.reduceat(counted, self._ends - self.spots) / self.spots)

    def losses_of_scenes(self, threshold: float) -> list[float]:
        """Return the weighted mean loss of each scene's pairs inside {σ < t}."""
        losses, weights = self.losses(threshold), [float(weight) for weight in self.weights]
        return [
            float(np.average(losses[places], weights=[weights[i] for i in places]))
            for places in self.members
        ]

    def mean(self, values: NDArray[np.float64]) -> float:
        """Return the mean of something of each pair, float64 [pairs], by their weights."""
        return float(np.average(values, weights=[float(weight) for weight in self.weights]))

    @property
    def law(self) -> Law:
        """The losses in the form that the curves of guarantees take.

        Scenes are in the order of hashes of their content, which does not depend on their losses;
        names may.
        """

        def key(place: int) -> bytes:
            pair = self.manifest.pairs[place]
            return hashlib.sha256(f"{pair.x_sha256} {pair.y_sha256}".encode()).digest()

        def key_of_scene(places: Sequence[int]) -> bytes:
            keys = sorted(map(key, places))
            return keys[0] if len(keys) == 1 else hashlib.sha256(b"".join(keys)).digest()

        curves, scenes, weights = [], [], []
        for place in (i for places in sorted(self.members, key=key_of_scene) for i in places):
            spots = self.spots_of(place)
            curves += spots
            scenes += [self.scenes[place]] * len(spots)
            weights += [self.weights[place] / len(spots)] * len(spots)
        return Law(curves, scenes, weights)

    @cached_property
    def highest(self) -> float:
        """The σ beyond which nothing is trusted; 0 without pairs."""
        return highest_trusted(self.sigma_quantiles, self.weights) if self.pairs else 0.0

    @property
    def reads(self) -> bool:
        """Whether it is for text."""
        return self.pipeline.fidelity.row.reads

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
        """The curve of all pairs under the calibration's guarantee."""
        law = self.law
        return self.guarantee.curve(
            law.loss_curves,
            self.error_bound,
            scenes=law.scenes,
            weights=law.weights,
            highest=self.highest,
        )

    @cached_property
    def max_alpha(self) -> float:
        """The α from which on the mask does not grow: all σ up to `highest` are trusted."""
        return self.curve.risk(self.highest)

    @cached_property
    def min_alpha(self) -> float:
        """The smallest α of the curve, found without making the curve."""
        return self.guarantee.min_alpha(self.error_bound, self.n)

    def minimal_n(self, alpha: float) -> int:
        """Return the number of scenes below which its guarantee trusts no pixel at α."""
        return self.guarantee.minimal_n(alpha, self.error_bound)

    def shortfall(self, alpha: float) -> str | None:
        """Explain why nothing is trusted at α and what would help; None if something may be."""
        return self.guarantee.shortfall(alpha, self.error_bound, self.n, self.curve.min_alpha)

    def usual(self, alpha: float) -> ErrorQuantile | None:
        """Return the error that few spots exceed inside the mask of α, or None."""
        return self._usual(alpha)

    @cached_property
    def _usual(self) -> Callable[[float], ErrorQuantile | None]:
        """Looks at all loss curves for each α, so answers are kept."""

        @lru_cache(maxsize=64)
        def found(alpha: float) -> ErrorQuantile | None:
            law = self.law
            scenes = by_scene(law.loss_curves, self.error_bound, law.scenes, law.weights)
            return self.guarantee.usual(self.curve, scenes, alpha)

        return found

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
        facts = {name: value for name, value in self.manifest if name not in _MADE_ANEW}
        provenance = self.manifest.provenance.model_dump(
            exclude={"software", "created_by", "parent", "request"}
        )
        facts["skipped"] = [*self.manifest.skipped, *skipped]
        facts["provenance"] = Provenance(created_by=created_by, parent=self.id, **provenance)
        return Calibration.from_pairs(pairs, **{**facts, **changes})

    def measured_pairs(self) -> list[MeasuredPair]:
        """Return the pairs again, for a calibration that extends this one."""
        return [
            MeasuredPair(info, tuple(self.spots_of(place)), self.sigma_quantiles[place])
            for place, info in enumerate(self.manifest.pairs)
        ]

    @cached_property
    def sizes(self) -> frozenset[tuple[int, int]] | None:
        """The (width, height) of outputs that the promise covers: those of the pairs.

        None: it is about spots or words, so about any output.
        """
        if self.pipeline.fidelity.unit != "picture":
            return None
        return frozenset((pair.width, pair.height) for pair in self.manifest.pairs)

    def answers_size(self, height: int, width: int) -> bool:
        """Return whether its promise is about outputs of this size."""
        return self.sizes is None or (width, height) in self.sizes


class Law(NamedTuple):
    """The losses of spots, the scene of each, and its weight in it."""

    loss_curves: Sequence[LossCurve]
    scenes: Sequence[tuple[str, str]]
    weights: Sequence[Fraction]


class Partitions:
    """Divides a calibration by group and class of input, and by kind of guarantee."""

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
        pairs = self._whole.manifest.pairs
        counts = Counter(pair.input_class for pair in pairs if pair.input_class is not None)
        least = min(COVERED, -(-len(self._whole.members) // 4))
        return {name: counts[name] for name in sorted(counts) if self._of_class(name).n >= least}

    def class_of(self, facts: InputFeatures) -> str | None:
        """Return the class of an upload under the calibration's rule; None without a rule."""
        rule = self._whole.pipeline.input_rule
        return None if rule is None else classify(rule, facts)

    def covers(self, facts: InputFeatures) -> bool:
        """Return whether the X of some pairs were like an upload, as far as classes show."""
        name = self.class_of(facts)
        return name is None or name in self.classes

    def under(self, kind: str | None) -> Calibration:
        """Return the calibration for a guarantee of this kind; None is its own kind.

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
            return replace(self._whole, document=document)

        return self._cache.get(("guarantee", kind), made)

    def of_class(self, name: str | None) -> Calibration:
        """Return the part of a class of inputs; all of it if the class is not covered or None."""
        return self._of_class(name) if name in self.classes else self._whole

    def _of_class(self, name: str | None) -> Calibration:
        """The part of all pairs that are read as of this class, however X was made.

        Of a scene they count as the mixture says, together at most as much as the ways of making X
        that are meant for the class.
        """
        whole, shares = self._whole, self._whole.manifest.shares
        meant = sum(share for way, share in shares.items() if class_of_way(way) == name)
        most = Fraction(meant, sum(shares.values())) if meant else Fraction(1)
        return self._part(
            ("class", name), [pair.input_class == name for pair in whole.manifest.pairs], most
        )

    def part(self, group: str | None, input_class: str | None) -> Calibration:
        """Return the part for a group and a class."""
        return self.of_group(group).partitions.of_class(input_class)

    def parts(self) -> list[tuple[str, Calibration]]:
        """Return the parts of its groups, of its classes, and of both together, by name."""
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
        """Return the part of one group, or all of it for None; BadGroup if it is unknown."""
        if group is None:
            return self._whole
        if group not in self.groups:
            known = ", ".join(self.groups) or "none"
            raise BadGroup(
                f"The calibration has no group {group[:80]!r}; its groups: {known}.",
                groups=list(self.groups),
            )
        return self._part(("group", group), [p.group == group for p in self._whole.manifest.pairs])

    def _part(
        self, key: tuple[str, Hashable], belongs: Sequence[bool], most: Fraction = Fraction(1)
    ) -> Calibration:
        """The pairs that belong; a scene counts 1 where they have the share `most` of it."""

        def made() -> Calibration:
            whole = self._whole
            places = [place for place, is_part in enumerate(belongs) if is_part]
            shares = [whole.weights[place] / most for place in places]
            for of_scene in places_of(whole.scenes[place] for place in places):
                total = sum(shares[k] for k in of_scene)
                for k in of_scene:
                    shares[k] /= max(total, 1)
            ends, pairs = np.cumsum(whole.spots), whole.document["pairs"]
            spots = [np.arange(ends[i] - whole.spots[i], ends[i]) for i in places]
            return Calibration(
                {**whole.document, "pairs": [pairs[i] for i in places]},
                whole.loss_curves.take(np.concatenate([*spots, np.empty(0, np.int64)])),
                whole.spots[places],
                whole.sigma_quantiles[places],
                shares,
            )

        return self._cache.get(key, made)


class Report:
    """Describes a calibration, how typical a picture is of it, and how much its masks trust."""

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
        about = "" if first.startswith("σ ") else first
        return about or f"{pictures}, of which nothing more is said"

    def typicality(self, mean_log_sigma: float, facts: InputFeatures | None = None) -> float:
        """Return the conformal p-value of an image among one of each calibration scene, in (0, 1].

        From how strange the learned table finds X (`app/images/description.py`); of data from the
        facts about X and the mean log σ; without kept facts from the latter alone, on both sides.
        For an image of a new scene that is exchangeable with these, P(p ≤ u) ≤ u.
        """
        if facts is not None and self._calibration.pipeline.input_rule == UPLOAD:
            strange = [pair.facts[_TABLE] for pair in self.one_of_each if pair.facts]
            if len(strange) == len(self.one_of_each):
                return (
                    1 + sum(strangeness >= facts.kind.strangeness for strangeness in strange)
                ) / (1 + len(strange))
        if facts is not None and len(self._known):
            numbers = facts.numbers()
            new = [*(numbers[name] for name in self._compared), mean_log_sigma]
            return outlier_p_value(self._known, np.array(new))
        values = np.array([pair.mean_log_sigma for pair in self.one_of_each])
        rank = 1 + min((values >= mean_log_sigma).sum(), (values <= mean_log_sigma).sum())
        return float(min(1.0, 2 * rank / (len(values) + 1)))

    @cached_property
    def one_of_each(self) -> Sequence[PairInfo]:
        """One pair of each scene at most, drawn by weight.

        Only these are exchangeable with an image of a new scene. Digests of the files draw, not
        what these show.
        """
        pairs, weights = self._calibration.manifest.pairs, self._calibration.weights
        drawn_pairs = []
        for places in self._calibration.members:
            digests = sorted(pairs[place].x_sha256 for place in places)
            drawn = int(hashlib.sha256("".join(digests).encode()).hexdigest(), 16)
            ends = accumulate(weights[place] for place in places)
            place = next(
                (
                    place
                    for place, end in zip(places, ends, strict=True)
                    if drawn < end * (1 << 256)
                ),
                None,
            )
            if place is not None:
                drawn_pairs.append(pairs[place])
        return drawn_pairs

    @cached_property
    def _compared(self) -> Sequence[str]:
        """The facts that all its pairs have; the table of kinds says nothing of data."""
        return [name for name in self._calibration.manifest.pairs[0].facts or {} if name != _TABLE]

    @cached_property
    def _known(self) -> NDArray[np.float64]:
        """Facts and mean log σ of `one_of_each`, float64 [n, f]; no rows if one has no facts."""
        facts = [
            [*(pair.facts[name] for name in self._compared), pair.mean_log_sigma]
            for pair in self.one_of_each
            if pair.facts is not None
        ]
        return np.array(facts) if len(facts) == len(self.one_of_each) else np.empty((0, 0))

    @property
    def out_of_distribution(self) -> float:
        """The typicality up to which a picture earns a warning.

        With few scenes, a quarter more than what the most unlike image gets.
        """
        return max(UNUSUAL, (1.25 if len(self._known) else 2.5) / (len(self.one_of_each) + 1))

    def mean_trusted_fraction(self, threshold: float) -> float:
        """Return the mean share of pixels with σ < t, from the stored quantiles."""
        if not self._calibration.pairs:
            return float("nan")
        shares = trusted_shares(self._calibration.sigma_quantiles, threshold)
        return self._calibration.mean(shares)


class _Cache:
    """The `MOST_PARTS` parts of a calibration that were used last.

    Threads that ask for one at the same time get the same.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._parts: OrderedDict[Hashable, Calibration] = OrderedDict()

    def __len__(self) -> int:
        return len(self._parts)

    def get(self, key: Hashable, make: Callable[[], Calibration]) -> Calibration:
        with self._lock:
            calibration = self._parts.get(key) or make()
            self._parts[key] = calibration
            self._parts.move_to_end(key)
            if len(self._parts) > MOST_PARTS:
                self._parts.popitem(last=False)
            return calibration


# --- The one-file form of a calibration, for export, import and the store.

FORMAT = "trustscale-calibration"
VERSION = 3
MEDIA_TYPE = "application/vnd.trustscale.calibration+zip"
SUFFIX = ".calibration"

_MANIFEST = "calibration.json"
_CURVES, _LENGTHS, _PAIRS = _ARRAYS = ("loss_curves.npy", "lengths.npy", "pairs.npy")
_HEAD = 1 << 14
_WIDTH = 2  # bytes of a number

# A calibration of 2,000 images takes under 20 MB; ten times that is a mistake or an attack.
_MAX_BYTES = 256 * 1024 * 1024


def dump(calibration: Calibration) -> bytes:
    """Return the file of a calibration."""
    curves = calibration.loss_curves
    errors = coarse_up(curves.errors)
    arrays = {
        _CURVES: np.stack([_halves(curves.levels), _halves(errors)]),
        _LENGTHS: curves.lengths.astype(np.uint16)[None],
        _PAIRS: np.column_stack(
            [calibration.spots.astype(np.uint16), _halves(calibration.sigma_quantiles)]
        ),
    }
    members = {name: _npy(array) for name, array in arrays.items()}
    document = {
        "format": FORMAT,
        "version": VERSION,
        "id": calibration.id,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        "manifest": calibration.document,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(_MANIFEST), json.dumps(document, indent=1))
        for name, data in members.items():
            archive.writestr(_entry(name), data)
    return out.getvalue()


def load(data: bytes) -> Calibration:
    """Return the calibration in a file.

    Raises:
        BadCalibration: damaged, edited, of another format or version, or inconsistent.
    """
    with _damage_refused():
        return _load(data)


@contextmanager
def _damage_refused() -> Iterator[None]:
    try:
        yield
    except BadCalibration:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadCalibration(
            f"The calibration file is invalid: {where[:200]}: {first['msg'][:200]}."
        ) from error
    except Exception as error:  # zip, JSON and array parsers raise anything on damaged input
        raise BadCalibration(f"The calibration file is damaged: {reason_of(error)}.") from error


def identity(file: IO[bytes]) -> tuple[str, str]:
    """Return a file's calibration id and upscaler fingerprint; nothing else is read.

    Raises BadCalibration; nothing is checked.
    """
    with _damage_refused(), zipfile.ZipFile(file) as archive, archive.open(_MANIFEST) as manifest:
        head = b""
        while chunk := manifest.read(_HEAD):  # both come before the pairs
            head += chunk
            if match := re.search(rb'"id": "([^"]+)".*?"fingerprint": "([^"]+)"', head, re.DOTALL):
                return match[1].decode(), match[2].decode()
    raise BadCalibration("The calibration file names no fingerprint.")


def unchecked(data: bytes) -> tuple[Any, Any]:
    """Return the version and the manifest of a file of any version, in any form.

    Raises BadCalibration; nothing is checked.
    """
    with _damage_refused(), zipfile.ZipFile(io.BytesIO(data)) as archive:
        document = json.loads(archive.read(_MANIFEST))
        return document["version"], document["manifest"]


def _load(data: bytes) -> Calibration:
    members = _members(data)
    document: dict[str, Any] = json.loads(members[_MANIFEST])
    if document.get("format") != FORMAT:
        raise BadCalibration("This is not a calibration file.")
    if document.get("version") != VERSION:
        raise BadCalibration(
            f"The calibration file has version {str(document.get('version'))[:20]}, and this "
            f"release reads version {VERSION}: calibrate again."
        )
    for name in _ARRAYS:
        if hashlib.sha256(members[name]).hexdigest() != document["sha256"].get(name):
            raise BadCalibration(f"The calibration file is damaged: {name} fails its checksum.")
    manifest = Manifest.model_validate(document["manifest"])
    if not manifest.pairs:
        raise BadCalibration("The calibration file holds no pairs.")
    curves, lengths, pairs = (_array(members[name]) for name in _ARRAYS)
    is_whole = (len(curves), len(lengths), *pairs.shape) == (
        *(2, 1, len(manifest.pairs)),
        1 + len(SIGMA_QUANTILES),
    )
    spots = pairs[:, 0].astype(np.int64)
    if not is_whole or spots.sum() != lengths.size or (spots < 1).any():
        raise BadCalibration("The calibration file contradicts itself: array sizes do not match.")
    limit = largest_float32(fidelity.bound(manifest.pipeline.fidelity))
    # Only the last error of a curve is above the bound, by rounding.
    errors = np.minimum(_floats(curves[1]), limit)
    loss_curves = LossCurves(_floats(curves[0]), errors, lengths[0].astype(np.int64))
    loss_curves.check()
    calibration = Calibration(document["manifest"], loss_curves, spots, _floats(pairs[:, 1:]))
    vars(calibration)["manifest"] = manifest  # checking it is as slow as parsing it
    if calibration.id != document.get("id"):
        raise BadCalibration("The calibration file was changed: its id does not match its content.")
    return calibration


def _members(data: bytes) -> dict[str, bytes]:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise BadCalibration("This is not a calibration file.")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if {info.filename for info in archive.infolist()} != {_MANIFEST, *_ARRAYS}:
            raise BadCalibration("This is not a calibration file.")
        if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
            raise BadCalibration("The calibration file is too large.")
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _halves(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of numbers with 8 significant bits."""
    return np.asarray((np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16), np.uint16)


def _floats(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _entry(name: str) -> zipfile.ZipInfo:
    """A member with a fixed date: equal calibrations are equal files."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _npy(array: NDArray[np.uint16]) -> bytes:
    """A member of uint16 [a, b]."""
    steps = np.diff(array, axis=1, prepend=np.uint16(0)).astype("<u2")
    out = io.BytesIO()
    planes = np.ascontiguousarray(steps[..., np.newaxis].view(np.uint8).swapaxes(1, 2))
    np.save(out, planes, allow_pickle=False)
    return out.getvalue()


def _array(data: bytes) -> NDArray[np.uint16]:
    """A member as uint16 [a, b].

    numpy would allocate what the header says before it reads the bytes.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise BadCalibration("The calibration file contradicts itself: an array has a wrong form.")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype != np.uint8 or shape[1:2] != (_WIDTH,) or len(shape) != 3:
        raise BadCalibration("The calibration file contradicts itself: an array has a wrong type.")
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise BadCalibration("The calibration file contradicts itself: an array has a wrong size.")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    planes = flat.reshape(shape, order="F" if is_fortran else "C")
    steps = np.ascontiguousarray(planes.swapaxes(1, 2)).view("<u2")[..., 0]
    return steps.cumsum(axis=1, dtype=np.uint16)
