"""Pairs: decoded and checked; each problem named with its item."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibrating.pair_source import PairSource, Role
from trustscale_server.images.compression import LOSSLESS, Compression
from trustscale_server.images.decode import PAIR_LIMITS, Decoded, decode
from trustscale_server.images.degradation import Degradation, Mixture
from trustscale_server.images.degrade import crop_to_multiple, make_input, make_values, subject_of
from trustscale_server.images.features import InputFeatures, look_at
from trustscale_server.images.raster import Read, read_picture, read_values, stretched, windowed
from trustscale_server.images.sandbox.client import in_decoder
from trustscale_server.pixels.lab import Colours, Seen, normalised_lab
from trustscale_server.platform.errors import BadImage, BadInput, BadPairs
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import RGB, image_digest

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

OnBadPair: TypeAlias = Literal["fail", "skip"]
"""What happens to a calibration when some of its pairs cannot be used."""

SAME_PIXELS = "duplicates {} by content"
"""Why a pair is left out whose Y has the pixels of another file."""

_WHOLE: Final = "p0,p100"

_MAX_SHARED: Final = 3 << 23  # bytes of a Y whose colours, four times as much, are kept

FITTED_ON = "σ was fitted on this photograph"
"""Why a pair that cannot represent a new photograph is left out."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A decoded pair: X [h, w, 3], Y [k·h, k·w, 3], of 8 bits, or of 16 in units of the stretch.

    enlarged: what somebody made of X, uint8 [H, W, 3].
    x_sha256, y_sha256: of the files, or of the pixels of an X that was made.
    pixels_sha256: of all of Y decoded, whatever its file.
    """

    name: str
    x: RGB
    y: RGB
    x_sha256: str
    y_sha256: str
    pixels_sha256: str
    seed: int
    features: InputFeatures
    variant: str | None = None
    truth: Truth | None = None
    enlarged: RGB | None = None

    @property
    def seen(self) -> Seen:
        """Y, or its colours if they are shared with other pairs."""
        return self.y if self.truth is None else self.truth.colours or self.y


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Truth:
    """What the pairs of one Y share: its pixels, their digest, and perhaps their colours.

    Fields are those of `Pair`.
    """

    y: RGB
    pixels_sha256: str
    colours: Colours | None = None


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
    `truths`: those that the variants share.

    Raises:
        BadInput: with the reason, if the pair cannot be used.
    """
    variant, y, x, enlarged = source.variant, files["y"], files.get("x"), files.get("enlarged")
    y_sha256 = hashlib.sha256(y).hexdigest()
    content = f"{seed}:{y_sha256}" if variant is None else f"{seed}:{y_sha256}:{variant}"
    pair_seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:7], "big")
    made_by = degradation or Degradation()
    if isinstance(made_by, Mixture) and variant is not None:
        made_by = made_by.variants()[variant]
    if pipeline.stretch is not None:
        low, truth, compression = _data(y, x, pipeline, made_by, pair_seed)
    elif x is not None:
        low, truth, compression = _pictures(y, x, pipeline)
    else:
        if truths is None or variant is None:
            truth = _cropped(y, pipeline)
        else:
            needed = pipeline.scale, pipeline.indecision.window, _looks_up(pipeline)
            key = (y_sha256, *needed)
            truth = truths.get(key, lambda: _shared(y, pipeline))
        subject = subject_of(truth.y, pipeline.scale, made_by, pair_seed)
        if subject is not truth.y:
            truth = Truth(subject, truth.pixels_sha256)
        low, compression = make_input(subject, pipeline.scale, made_by, pair_seed)
    x_sha256 = hashlib.sha256(low.tobytes() if x is None else x).hexdigest()
    return Pair(
        source.name,
        np.ascontiguousarray(low),
        np.ascontiguousarray(truth.y),
        x_sha256,
        y_sha256,
        truth.pixels_sha256,
        pair_seed,
        look_at(low, compression),
        variant,
        truth,
        None if enlarged is None else _of_8_bits(enlarged),
    )


def _of_8_bits(enlarged: bytes) -> RGB:
    rgb = decoded(enlarged, "enlarged").rgb
    if rgb.dtype != np.uint8:
        raise BadImage("enlarged: a picture of 8 bits is needed")
    return np.ascontiguousarray(rgb)


class _Images(NamedTuple):
    """X, Y, and how the file of X is compressed."""

    x: RGB
    truth: Truth
    compression: Compression


def _pictures(y: bytes, x: bytes, pipeline: MeasurementSpec) -> _Images:
    rgb, given = decoded(y, "y").rgb, decoded(x, "x")
    _check_size(rgb, given.rgb, pipeline)
    return _Images(given.rgb, Truth(rgb, image_digest(rgb)), given.compression)


def _cropped(y: bytes, pipeline: MeasurementSpec) -> Truth:
    """Y without the pixels that no whole pixel of X covers."""
    rgb = decoded(y, "y").rgb
    _check_size(rgb, None, pipeline)
    cropped = np.ascontiguousarray(crop_to_multiple(rgb, pipeline.scale))
    return Truth(cropped, image_digest(rgb))


def _shared(y: bytes, pipeline: MeasurementSpec) -> Truth:
    """The same for several pairs, with its colours if each would look them up."""
    truth = _cropped(y, pipeline)
    if not _looks_up(pipeline) or truth.y.nbytes > _MAX_SHARED:
        return truth
    return replace(truth, colours=Colours(normalised_lab(truth.y)))


def _looks_up(pipeline: MeasurementSpec) -> bool:
    return pipeline.samples == 1 and pipeline.fidelity.spec.of_distance is not None


def _data(
    y: bytes, x: bytes | None, pipeline: MeasurementSpec, made_by: Degradation | Mixture, seed: int
) -> _Images:
    """Data: X alone chooses the stretch, as in serving, and Y gets the same."""
    assert pipeline.stretch is not None  # noqa: S101 - as the caller says
    assert isinstance(made_by, Degradation)  # noqa: S101 - the config sees to it
    truth, given = _read(y, "y"), None if x is None else _read(x, "x")
    _check_size(truth.values, None if given is None else given.values, pipeline)
    digest = image_digest(stretched(truth.values, windowed(truth, _WHOLE)))
    if given is None:
        cropped = crop_to_multiple(truth.values, pipeline.scale)
        truth = replace(truth, values=cropped)
        given = replace(truth, values=make_values(cropped, pipeline.scale, made_by, seed))
    raster = windowed(given, pipeline.stretch)
    if given.values.shape[2] != truth.values.shape[2]:
        raise BadImage("x and y differ in their number of bands")
    low, high = (stretched(read.values, raster) for read in (given, truth))
    return _Images(low, Truth(high, digest), LOSSLESS)


def _check_size(y: NDArray[Any], x: NDArray[Any] | None, pipeline: MeasurementSpec) -> None:
    if reason := wrong_pair_sizes(
        array_size(y), None if x is None else array_size(x), None, pipeline
    ):
        raise BadImage(reason)


def _read(data: bytes, role: str) -> Read:
    try:
        read = in_decoder(read_values, data, PAIR_LIMITS)
    except BadInput as error:
        raise BadImage(f"{role}: {error.detail}") from error
    if read.valid is not None:
        raise BadImage(f"{role}: some pixels have no data")
    return read


def wrong_pair_sizes(
    y: Size, x: Size | None, label: Size | None, pipeline: MeasurementSpec
) -> str | None:
    """Explain why images of these sizes are no pair, or no label of one."""
    k, window = pipeline.scale, pipeline.indecision.window
    size = (y[0] - y[0] % k, y[1] - y[1] % k) if x is None else (x[0] * k, x[1] * k)
    if x is not None and y != size:
        return f"y is {y[0]}×{y[1]}, but {k}× the size of x is {size[0]}×{size[1]}"
    if min(size) < k:
        return f"y is smaller than {k} pixels"
    if min(size) < window:
        return f"y is {y[0]}×{y[1]}, smaller than the window of {window} pixels that σ needs"
    if label is not None and label != size:
        return f"label is {label[0]}×{label[1]}, the prediction will be {size[0]}×{size[1]}"
    return None


def bad_pairs(items: Sequence[dict[str, str]], total: int) -> BadPairs:
    """Return the error that names every pair that cannot be used."""
    named = "; ".join(f"{item['name']}: {item['reason']}" for item in items[:3])
    more = f"; and {len(items) - 3} more" if len(items) > 3 else ""
    hint = ""
    if any(item["reason"] == FITTED_ON for item in items):
        hint = (
            " Leave out what σ was fitted on (--skip-bad-pairs, on_bad_pair), or choose another σ "
            "(--estimator, indecision)."
        )
    return BadPairs(
        f"{len(items)} of {total} pairs cannot be used: {named}{more}.{hint}", items=list(items)
    )


def check_left_out(items: Sequence[dict[str, str]], usable: int, on_bad_pair: OnBadPair) -> None:
    """Raise BadPairs if pairs that cannot be used may not be left out, or none is left."""
    if items and (on_bad_pair == "fail" or not usable):
        raise bad_pairs(items, usable + len(items))
    if not usable:
        raise BadPairs("There are no pairs: send archive, or files x and y.", items=[])


def array_size(image: NDArray[Any]) -> Size:
    """Return the width and height of an image."""
    return image.shape[1], image.shape[0]


def decoded(data: bytes, role: str, *, is_data: bool = False) -> Decoded:
    """Decode an image of a pair; data by the range of their values.

    Raises BadImage, naming its role.
    """
    try:
        if is_data:
            return in_decoder(read_picture, data, PAIR_LIMITS, stretch=_WHOLE)
        return in_decoder(decode, data, PAIR_LIMITS)
    except BadInput as error:
        raise BadImage(f"{role}: {error.detail}") from error


def decode_label(data: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Decode a label as bool [H, W]: pixels that are not black differ in meaning."""
    label = np.asarray(decoded(data, "label").rgb.any(axis=2))
    if label.shape != shape:
        raise BadImage(f"label is {label.shape[1]}×{label.shape[0]}, y is {shape[1]}×{shape[0]}")
    return label
