"""A pair from its files: X is decoded or made, and what it shows is described."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from trustscale_server.calibrating.pair_files import (
    WHOLE_RANGE,
    decoded,
    raise_if_wrong_size,
    read_data,
)
from trustscale_server.calibrating.pair_source import PairSource, Role
from trustscale_server.images.compression import LOSSLESS, Compression
from trustscale_server.images.stretch import stretched, windowed
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.kinds.degrade import crop_to_multiple, make_input, make_values, subject_of
from trustscale_server.kinds.features import InputFeatures, look_at
from trustscale_server.pixels.lab import Colours, Seen, normalised_lab
from trustscale_server.platform.errors import BadImage
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import RGB, image_digest


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Truth:
    """Y, uint8 or uint16 [H, W, 3]; the pairs of one Y share it.

    pixels_sha256: of all of Y decoded, whatever its file.
    colours: of Y, if several pairs would compute them.
    """

    y: RGB
    pixels_sha256: str
    colours: Colours | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A decoded pair: X [h, w, 3], Y [k·h, k·w, 3], of 8 bits, or of 16 in units of the stretch.

    enlarged: what somebody made of X, uint8 [k·h, k·w, 3].
    x_sha256, y_sha256: of the files, or of the pixels of an X that was made.
    """

    name: str
    x: RGB
    truth: Truth
    x_sha256: str
    y_sha256: str
    seed: int
    features: InputFeatures
    variant: str | None = None
    enlarged: RGB | None = None

    @property
    def y(self) -> RGB:
        """The pixels of Y."""
        return self.truth.y

    @property
    def pixels_sha256(self) -> str:
        """The digest of all of Y decoded."""
        return self.truth.pixels_sha256

    @property
    def seen(self) -> Seen:
        """Y, or its colours if they are shared with other pairs."""
        return self.truth.y if self.truth.colours is None else self.truth.colours


class Truths:
    """The truths in work, shared by all pairs of one Y.

    One lives as long as a pair that has it, so that no more are held than pairs are measured.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[Hashable, Truth] = WeakValueDictionary()
        self._turns: WeakValueDictionary[Hashable, Lock] = WeakValueDictionary()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Truth]) -> Truth:
        """Return the truth of this key, which is made, in one thread, if no pair has it."""
        with self._lock:
            turn = self._turns.setdefault(key, Lock())
        with turn:
            truth = self._known.get(key)
            if truth is None:
                truth = self._known[key] = make()
            return truth


def variants_of(degradation: Degradation | Mixture | None) -> Sequence[str | None]:
    """Return the ways in which X is made from each Y, by name; None if there is only one."""
    return list(degradation.variants()) if isinstance(degradation, Mixture) else [None]


def load_pair(
    source: PairSource,
    files: Mapping[Role, bytes],
    pipeline: MeasurementSpec,
    *,
    degradation: Degradation | Mixture | None,
    seed: int,
    truths: Truths | None = None,
) -> Pair:
    """Decode and check one pair, given the content of its files.

    Without x, X is made by `degradation`, in the way of `variants_of` that the source names. The
    seed of samples and degradation follows from `seed`, the content of Y and the variant only.
    `truths`: shared by the variants of one Y.

    Raises:
        BadInput: with the reason, if the pair cannot be used.
    """
    y, x, enlarged = files["y"], files.get("x"), files.get("enlarged")
    y_sha256 = hashlib.sha256(y).hexdigest()
    pair_seed = _seed(seed, y_sha256, source.variant)
    made_by = degradation or Degradation()
    if isinstance(made_by, Mixture) and source.variant is not None:
        made_by = made_by.variants()[source.variant]
    if pipeline.stretch is not None:
        images = _data(y, x, pipeline, made_by, pair_seed)
    elif x is not None:
        images = _given(y, x, pipeline)
    else:
        if truths is None or source.variant is None:
            truth = _cropped(y, pipeline)
        else:
            needed = pipeline.scale, pipeline.indecision.window, _looks_up_colours(pipeline)
            truth = truths.get((y_sha256, *needed), lambda: _shared(y, pipeline))
        images = _made(truth, pipeline, made_by, pair_seed)
    return Pair(
        source.name,
        images.x,
        images.truth,
        hashlib.sha256(images.x.tobytes() if x is None else x).hexdigest(),
        y_sha256,
        pair_seed,
        look_at(images.x, images.compression),
        source.variant,
        None if enlarged is None else _of_8_bits(enlarged),
    )


def _seed(seed: int, y_sha256: str, variant: str | None) -> int:
    """The seed of a pair's samples and of how its X is made, below 2⁵⁶."""
    content = f"{seed}:{y_sha256}" if variant is None else f"{seed}:{y_sha256}:{variant}"
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:7], "big")


def _of_8_bits(enlarged: bytes) -> RGB:
    rgb = decoded(enlarged, "enlarged").rgb
    if rgb.dtype != np.uint8:
        raise BadImage("enlarged: a picture of 8 bits is needed")
    return rgb


class _Images(NamedTuple):
    """X, Y, and how the file of X is compressed."""

    x: RGB
    truth: Truth
    compression: Compression


def _given(y: bytes, x: bytes, pipeline: MeasurementSpec) -> _Images:
    rgb, given = decoded(y, "y").rgb, decoded(x, "x")
    raise_if_wrong_size(rgb, given.rgb, pipeline)
    return _Images(given.rgb, Truth(rgb, image_digest(rgb)), given.compression)


def _made(
    truth: Truth, pipeline: MeasurementSpec, made_by: Degradation | Mixture, seed: int
) -> _Images:
    subject = subject_of(truth.y, pipeline.scale, made_by, seed)
    if subject is not truth.y:
        truth = Truth(np.ascontiguousarray(subject), truth.pixels_sha256)
    x, compression = make_input(subject, pipeline.scale, made_by, seed)
    return _Images(x, truth, compression)


def _cropped(y: bytes, pipeline: MeasurementSpec) -> Truth:
    """Y without the pixels that no whole pixel of X covers."""
    rgb = decoded(y, "y").rgb
    raise_if_wrong_size(rgb, None, pipeline)
    cropped = np.ascontiguousarray(crop_to_multiple(rgb, pipeline.scale))
    return Truth(cropped, image_digest(rgb))


def _shared(y: bytes, pipeline: MeasurementSpec) -> Truth:
    """The same for several pairs, with its colours if each would look them up."""
    truth = _cropped(y, pipeline)
    # Colours take four times the memory of Y.
    if not _looks_up_colours(pipeline) or truth.y.nbytes > 24 * 2**20:
        return truth
    return replace(truth, colours=Colours(normalised_lab(truth.y)))


def _looks_up_colours(pipeline: MeasurementSpec) -> bool:
    return pipeline.samples == 1 and pipeline.fidelity.spec.of_distance is not None


def _data(
    y: bytes, x: bytes | None, pipeline: MeasurementSpec, made_by: Degradation | Mixture, seed: int
) -> _Images:
    """Data: X alone chooses the stretch, as in serving, and Y gets the same."""
    assert pipeline.stretch is not None  # noqa: S101 - as the caller says
    assert isinstance(made_by, Degradation)  # noqa: S101 - the config sees to it
    truth, given = read_data(y, "y"), None if x is None else read_data(x, "x")
    raise_if_wrong_size(truth.values, None if given is None else given.values, pipeline)
    digest = image_digest(stretched(truth.values, windowed(truth, WHOLE_RANGE)))
    if given is None:
        cropped = crop_to_multiple(truth.values, pipeline.scale)
        truth = replace(truth, values=cropped)
        given = replace(truth, values=make_values(cropped, pipeline.scale, made_by, seed))
    raster = windowed(given, pipeline.stretch)
    if given.values.shape[2] != truth.values.shape[2]:
        raise BadImage("x and y differ in their number of bands")
    low, high = (stretched(read.values, raster) for read in (given, truth))
    return _Images(low, Truth(high, digest), LOSSLESS)
