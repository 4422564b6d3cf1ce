"""σ: where a prediction may be wrong, from the M samples of one request and its input (§2.2).

A calibration holds for any σ: one that suits other pictures gives a smaller mask, never a broken
promise. Only, it must not be fitted to the pairs that calibrate it, so a `Fit`, the weights of the
terms of `features.py`, names its photographs.

To add an estimator, write a function of the accumulated samples and enter its row in `ESTIMATORS`,
which forms, commands, checks, admission and answers read.

**σ of words** says how likely a word that a reader reads in Ŷ is to be read otherwise in the truth.
The reader reads Ŷ, and the plain enlargement E of the input in the same places. A logistic function
of five facts about each word is its score, painted into its box:

    log σ = w₀ + Σ_j w_j f_j

Where a line of text is found, in Ŷ or in E, and half of it is no word of Ŷ, σ is `UNREADABLE`;
elsewhere `NO_TEXT`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, Final, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal import reader
from trustscale_server.conformal.bounds import Shape
from trustscale_server.conformal.fidelity import (
    Kernel,
    Pixels,
    gaussian_blur,
    gaussian_radius,
    smooth,
    to_8_bit,
)
from trustscale_server.conformal.reader import box_of, painted
from trustscale_server.sigma import features
from trustscale_server.sigma.features import MapFn, MapSource, Moments, OnRows, PixelRows

# --- σ of words: how likely a word that a reader reads in Ŷ is to be read otherwise in the truth.

TERMS: Final = ("doubt", "otherwise", "smallness", "length", "departure")
"""What the score of a word is made of: the logit of 1 − the reader's confidence; whether E reads
otherwise; −log of its height in pixels of X; log of the number of its letters; log of the mean
‖E_M[μ] − E‖₁ in its box."""

UNREADABLE, NO_TEXT = 1e6, 1e-6
_MOST_LOG = 12.0  # of the score of a word, which lies between the two
_NEVER = 1e-3  # no reader is surer than this
_LEAST_HEIGHT = 0.5  # of a word, in pixels of X
_FLAT = 1e-4  # of a departure, under the logarithm


@dataclass(frozen=True, slots=True)
class ReadingFit:
    """Weights of the terms of words, and where they come from.

    weights: (term, w_j) pairs, one for each of `TERMS` in their order.
    offset: w₀, which makes σ the odds that the word is wrong; masks do not depend on it.
    """

    weights: tuple[tuple[str, float], ...]
    offset: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple((str(t), float(w)) for t, w in self.weights))
        if tuple(term for term, _ in self.weights) != TERMS:
            raise ValueError(f"the terms of words are {', '.join(TERMS)}")
        if not all(math.isfinite(number) for number in (self.offset, *dict(self.weights).values())):
            raise ValueError("weights must be numbers")

    def scores(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score words by their terms, float64 [N, T]; returns [N] > 0."""
        log = terms @ np.array([weight for _, weight in self.weights]) + self.offset
        return np.asarray(np.exp(np.clip(log, -_MOST_LOG, _MOST_LOG)))


@cache
def shipped_reading() -> ReadingFit:
    """Return the weights that come with this program."""
    data = resources.files(__package__).joinpath("fits", "reading.json").read_text("utf-8")
    return ReadingFit(**json.loads(data))


@dataclass(frozen=True, slots=True)
class ReadPage:
    """What was read for one picture.

    made: the lines of Ŷ. otherwise: whether E shows each of their words otherwise.
    plain: the lines of E. scale: of Ŷ over X.
    """

    made: Sequence[reader.Line]
    otherwise: Sequence[bool]
    plain: Sequence[reader.Line]
    scale: int

    @classmethod
    def of(cls, made: Pixels, plain: Pixels, scale: int) -> ReadPage:
        """Read Ŷ and E, [H, W, 3] of 8 or 16 bits, of which the upper 8 are read."""
        rgb, plain_rgb = to_8_bit(made), to_8_bit(plain)
        lines = reader.read_lines(rgb)
        return cls(
            lines, reader.read_otherwise(lines, plain_rgb), reader.read_lines(plain_rgb), scale
        )

    @property
    def words(self) -> list[reader.Word]:
        """The words of Ŷ."""
        return [word for line in self.made for word in line.words]


def terms(page: ReadPage, departed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the terms of all words, float64 [N, T].

    departed: ‖E_M[μ] − E‖₁ in normalised Lab, float32 [H, W].
    """
    rows = []
    for word, is_other in zip(page.words, page.otherwise, strict=True):
        top, bottom = word.corners[:2], word.corners[:1:-1]
        height = float(np.linalg.norm(bottom - top, axis=1).mean()) / page.scale
        place, inside = box_of(word.corners, departed.shape)
        departure = float(departed[place][inside].mean())
        rows.append(
            (
                math.log((1 - word.confidence + _NEVER) / (word.confidence + _NEVER)),
                float(is_other),
                -math.log(max(_LEAST_HEIGHT, height)),
                math.log(len(reader.letters_of(word.text))),
                math.log(departure + _FLAT),
            )
        )
    return np.array(rows, np.float64).reshape(-1, len(TERMS))


def sigma(page: ReadPage, departed: NDArray[np.float32], fit: ReadingFit) -> NDArray[np.float32]:
    """Return σ, float32 [H, W], finite and > 0; `departed` as of `terms`."""
    scored = zip(page.words, fit.scores(terms(page, departed)), strict=True)
    boxes = [(word.corners, float(score)) for word, score in scored]
    height, width = departed.shape
    drawn = painted(boxes, (height, width), NO_TEXT)
    for line in (*page.made, *page.plain):
        place, inside = box_of(line.corners, drawn.shape)
        empty = inside & (drawn[place] == NO_TEXT)
        if 2 * empty.sum() > inside.sum():
            drawn[place][empty] = UNREADABLE
    return drawn


# --- σ: where a prediction may be wrong, from the M samples of one request and its input (§2.2).

T = TypeVar("T")

_STRIP = 64  # rows of σ that are looked at together
_BLURS = 4.0, 8.0  # of a departure, in pixels; the larger of both counts (docs/mask-power.md)
MOST_WEIGHT = 100.0  # of one term of a fit
MOST_UNITS, MOST_OF_UNIT = 64, 1e4
_MOST_LOG_SIGMA = 60.0  # of σ, so that it stays a float32 above 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Weights of a fitted σ, and where they come from.

    Only `weights`, `units` and `offset` change σ.

        log σ = w₀ + Σ_j w_j f_j + Σ_k v_k max(0, b_k + Σ_j u_kj f_j)

    weights: (term, w_j) pairs; the terms are those of `features.term_names()`.
    units: (v_k, b_k, u_k1, u_k2, …) of each unit that bends, one u_kj per term, in their order.
    offset: w₀, which puts σ on the scale of D; the mask does not depend on it.
    upscaler: fingerprint of the upscaler whose errors were fitted.
    samples, metric: M and D that it was fitted for.
    scenes, pairs: how many it was fitted on.
    photographs: the first 16 hexadecimal digits of the SHA-256 of the pixels of their Y, in order.
    classes: of uploads that it is fitted for; none: for all.
    shape: knots (σ, mean loss) of the risk curve of what it was fitted on, which calibrates
    nothing; the mask for a named α does not depend on it.
    """

    weights: tuple[tuple[str, float], ...]
    offset: float = 0.0
    name: str = "fitted"
    upscaler: str | None = None
    samples: int | None = None
    metric: str | None = None
    scenes: int = 0
    pairs: int = 0
    photographs: tuple[str, ...] = ()
    note: str = ""
    classes: tuple[str, ...] = ()
    units: tuple[tuple[float, ...], ...] = ()
    shape: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple((str(t), float(w)) for t, w in self.weights))
        object.__setattr__(self, "photographs", tuple(map(str, self.photographs)))
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        object.__setattr__(self, "shape", tuple((float(t), float(a)) for t, a in self.shape))
        object.__setattr__(self, "units", tuple(tuple(map(float, unit)) for unit in self.units))
        names = [term for term, _ in self.weights]
        if unknown := set(names) - set(features.term_names()):
            raise ValueError(f"there are no terms {sorted(unknown)}")
        if not names or len(set(names)) < len(names):
            raise ValueError("a fit has at least one term, and each once")
        if len(self.units) > MOST_UNITS or {len(unit) for unit in self.units} - {len(names) + 2}:
            raise ValueError(f"at most {MOST_UNITS} units, each with a weight for every term")
        numbers = [self.offset, *(weight for _, weight in self.weights)]
        for most, checked in ((MOST_WEIGHT, numbers), (MOST_OF_UNIT, chain(*self.units))):
            if not all(math.isfinite(number) and abs(number) <= most for number in checked):
                raise ValueError(f"weights must be numbers of at most {most:g}")
        if self.shape:
            Shape(*zip(*self.shape, strict=True))
        if len(self.name) > 200 or len(self.note) > 2000 or len(self.photographs) > 100_000:
            raise ValueError("the provenance of the fit is too long")

    @property
    def needs_input(self) -> bool:
        """Whether σ looks at the input X."""
        return self._looks_at("residual")

    @property
    def least_samples(self) -> int:
        """The M from which on all of its terms are defined."""
        return 2 if self._looks_at("variance") else 1

    def _looks_at(self, energy: str) -> bool:
        return any(features.energy_of(term) == energy for term, _ in self.weights)

    def log_sigma(self, terms: NDArray[Any]) -> NDArray[np.float64]:
        """Return log σ, float64 [...], from the values of its terms, float [T, ...]."""
        total, *sums = np.tensordot(self._matrix, terms, 1)
        for plane, (v, b, *_) in zip(sums, self.units, strict=True):
            features.add_unit(total, plane, (v, b))
        return np.asarray(total + self.offset)

    def sigma(self, maps: MapSource) -> NDArray[np.float32]:
        """Return σ, float32 [H, W], finite and > 0."""
        return features.assembled(maps.shape, lambda on_rows: self.strips(maps, on_rows))

    def strips(self, maps: MapSource, on_rows: OnRows[T], map_fn: MapFn = map) -> Iterable[T]:
        """Call `on_rows` for all rows of σ, a strip at a time, in the threads of `map_fn`."""
        names = [term for term, _ in self.weights]
        weights = dict(zip(names, self._matrix.T, strict=True))
        sigma = features.log_sigma(maps, weights, [(v, b) for v, b, *_ in self.units], map_fn)
        sigma += self.offset
        np.clip(sigma, -_MOST_LOG_SIGMA, _MOST_LOG_SIGMA, out=sigma)
        np.exp(sigma, out=sigma)
        return features.enlarged_cells(sigma, maps.shape, on_rows, map_fn)

    @property
    def _matrix(self) -> NDArray[np.float64]:
        """Weights of the linear sum and of those that the units bend, [1 + K, T]."""
        return np.array([[weight for _, weight in self.weights], *(u[2:] for u in self.units)])


SHIPPED = ("span-x4-m1", "realesr-x4-m1", "span-x4-m1-lossless")
"""The fits for the embedded upscalers and one M: of each for all classes, then for some."""


def shipped_for(upscaler: str, samples: int, metric: str) -> tuple[Fit, ...]:
    """Return the shipped fits for an upscaler's fingerprint, M and D, that of all classes first."""
    purpose = (upscaler, samples, metric)
    fits = map(shipped_fit, SHIPPED)
    return tuple(fit for fit in fits if (fit.upscaler, fit.samples, fit.metric) == purpose)


@cache
def shipped_fit(name: str) -> Fit:
    """Return a fit that comes with this program, by the name of its file in `fits/`."""
    data = resources.files(__package__).joinpath("fits", f"{name}.json").read_text("utf-8")
    return Fit(**json.loads(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """One row of `ESTIMATORS`.

    sigma: σ of the accumulated samples, float32 [H, W], finite and ≥ 0.
    title: how a form offers it.
    radius: how far along either axis σ of a pixel depends on other pixels; None: most of the image.
    window: the smallest image side, in pixels, that it is meant for.
    least_samples: M from which on it is defined.
    needs_input: whether it uses the input X.
    bytes_per_pixel: what it allocates at most beside the samples.
    smooths: whether kernel, size, blur and clip_quantile change it.
    takes_fit: whether the settings carry its weights.
    reads: whether it needs what a text reader reads, which a metric of words brings.
    """

    sigma: Callable[[Accumulator], NDArray[np.float32]]
    title: str
    radius: Callable[[IndecisionSettings], int | None]
    window: Callable[[IndecisionSettings], int] = lambda _: 1
    least_samples: int = 1
    needs_input: bool = False
    bytes_per_pixel: int = 12
    smooths: bool = True
    takes_fit: bool = False
    reads: bool = False


@dataclass(frozen=True, slots=True)
class IndecisionSettings:
    """How σ is made from the samples.

    estimator: a name in `ESTIMATORS`.
    kernel, size: the window K, `size` pixels wide; not of `pixel_variance`.
    blur: standard deviation in pixels of a final Gaussian blur; 0: none.
    clip_quantile: σ is cut at this quantile of its own values before the blur; None: not cut.
    fit: the weights of `fitted`.
    fits: those of the classes of uploads that have their own; `of_class` puts them in its place.
    reading: the weights of `reading`; None: the shipped ones.

    The defaults give the largest masks on photographs (docs/calibration.md).
    """

    estimator: str = "smoothed_variance"
    kernel: Kernel = "box"
    size: int = 7
    blur: float = 4.0
    clip_quantile: float | None = None
    fit: Fit | None = None
    fits: tuple[Fit, ...] = ()
    reading: ReadingFit | None = None

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {tuple(ESTIMATORS)}")
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be one of {get_args(Kernel)}")
        if not 1 <= self.size <= 511:
            raise ValueError("size must be between 1 and 511 pixels")
        if not 0 <= self.blur <= 256:
            raise ValueError("blur must be between 0 and 256 pixels")
        if self.clip_quantile is not None and not 0 < self.clip_quantile <= 1:
            raise ValueError("clip_quantile must be in (0, 1]")
        object.__setattr__(self, "fits", tuple(self.fits))
        self._check_weights()

    def _check_weights(self) -> None:
        if self.row.reads:
            object.__setattr__(self, "reading", self.reading or shipped_reading())
        elif self.reading is not None:
            raise ValueError("weights of words belong to the estimator reading")
        if self.row.takes_fit != (self.fit is not None):
            raise ValueError("a fit belongs to the estimator fitted, and only to it")
        named = [name for fit in self.fits for name in fit.classes]
        if self.fits and self.fit is None:
            raise ValueError("fits of some classes need a fit for the others")
        if not all(fit.classes for fit in self.fits) or len(set(named)) < len(named):
            raise ValueError("each of the fits names its classes, and no class has two")

    @property
    def row(self) -> Estimator:
        """The estimator's row."""
        return ESTIMATORS[self.estimator]

    @property
    def window(self) -> int:
        """The smallest image side, in pixels, that holds the window."""
        return self.row.window(self)

    @property
    def radius(self) -> int | None:
        """How far σ of a pixel looks, in pixels; None is most of the image."""
        return self.row.radius(self)

    def of_class(self, name: str | None) -> IndecisionSettings:
        """Return how σ of this class's uploads is made; None is no class."""
        own = (fit for fit in self.fits if name in fit.classes)
        return replace(self, fit=next(own, self.fit), fits=()) if self.fits else self

    @property
    def all_fits(self) -> tuple[Fit, ...]:
        """The fit and those of classes; none where the estimator takes none."""
        return () if self.fit is None else (self.fit, *self.fits)

    @property
    def needs_input(self) -> bool:
        """Whether the accumulator needs the enlarged input."""
        fits = self.all_fits
        return self.row.needs_input and (not fits or any(fit.needs_input for fit in fits))

    @property
    def least_samples(self) -> int:
        """The M from which on σ is defined."""
        return max(self.row.least_samples, *(fit.least_samples for fit in self.all_fits), 1)


class Accumulator(Moments):
    """Accumulates samples for σ.

    `enlarged` and `samples` are of `Moments`; only some estimators (`needs_input`) need the first.
    `map_fn` goes through strips of σ, as `map` does, or in threads. `page`: what was read.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        settings: IndecisionSettings | None = None,
        enlarged: PixelRows | None = None,
        samples: int | None = None,
    ) -> None:
        super().__init__(shape, enlarged, samples)
        self.settings = settings or IndecisionSettings()
        self.map_fn: MapFn = map
        self.page: ReadPage | None = None

    def result(self) -> NDArray[np.float32]:
        """Return σ, float32 [H, W], finite and ≥ 0.

        Raises:
            ValueError: too few samples have been added, or the enlarged input is missing.
        """
        self._check_enough()
        return self.settings.row.sigma(self)

    def _check_enough(self) -> None:
        self.check_any()
        if self.count < self.settings.least_samples:
            raise ValueError(
                f"{self.settings.estimator} needs at least {self.settings.least_samples} samples"
            )

    def strips(self, on_rows: OnRows[T]) -> Iterable[T]:
        """Call `on_rows` for all rows of `result`, a strip at a time; a fitted σ is never whole.

        `on_rows` may change its rows; what it returns is passed on. Raises ValueError as `result`.
        """
        fit = self.settings.fit
        if fit is not None:
            self._check_enough()
            return fit.strips(self, on_rows, self.map_fn)
        sigma = self.result()
        return self.map_fn(
            lambda top: on_rows(top, sigma[top : top + _STRIP]), range(0, len(sigma), _STRIP)
        )


def _smoothed(sigma: NDArray[np.float32], settings: IndecisionSettings) -> NDArray[np.float32]:
    """σ clipped and blurred in place, as the settings say."""
    if settings.clip_quantile is not None and settings.clip_quantile < 1:
        largest = np.float32(np.quantile(sigma, settings.clip_quantile))
        np.minimum(sigma, largest, out=sigma)
    gaussian_blur(sigma, settings.blur, out=sigma)
    np.maximum(sigma, np.float32(0), out=sigma)  # running sums may leave −1e-20 or −0
    return sigma


def _windowed(values: NDArray[np.float32], settings: IndecisionSettings) -> NDArray[np.float32]:
    smooth(values, settings.kernel, settings.size, out=values)
    return _smoothed(values, settings)


def _departed(accumulator: Accumulator) -> NDArray[np.float32]:
    departure = accumulator.departure()
    wide = departure.copy()
    for plane, blur in zip((departure, wide), _BLURS, strict=True):
        gaussian_blur(plane, blur, out=plane)
    np.maximum(departure, wide, out=departure)
    return np.maximum(departure, np.float32(0), out=departure)  # running sums may leave −1e-20


def _fitted(accumulator: Accumulator) -> NDArray[np.float32]:
    assert accumulator.settings.fit is not None  # noqa: S101 - __post_init__ sees to it
    return accumulator.settings.fit.sigma(accumulator)


def _read(accumulator: Accumulator) -> NDArray[np.float32]:
    page, weights = accumulator.page, accumulator.settings.reading
    if page is None or weights is None:
        raise ValueError("σ needs what was read, which was not given")
    return sigma(page, accumulator.departure(), weights)


def _blur_radius(settings: IndecisionSettings) -> int | None:
    """A clip at a quantile depends on the whole image."""
    if settings.clip_quantile not in {None, 1}:
        return None
    return gaussian_radius(settings.blur)


def _window_radius(settings: IndecisionSettings) -> int | None:
    radius = _blur_radius(settings)
    return None if radius is None else radius + settings.size // 2


ESTIMATORS: dict[str, Estimator] = {
    "smoothed_variance": Estimator(
        sigma=lambda accumulator: _windowed(accumulator.pixel_variance(), accumulator.settings),
        title="Variance of the samples, smoothed",
        radius=_window_radius,
        window=lambda settings: settings.size,
        least_samples=2,
    ),
    "fitted": Estimator(
        sigma=_fitted,
        title="Fitted to the upscaler's errors (largest masks)",
        radius=lambda _: None,
        needs_input=True,
        # Cells of colour, energies and terms, which go before mask and trust levels come.
        bytes_per_pixel=6,
        smooths=False,
        takes_fit=True,
    ),
    "departure": Estimator(
        sigma=_departed,
        title="How far the upscaler departs from its enlarged input (one sample suffices)",
        radius=lambda _: gaussian_radius(max(_BLURS)),
        needs_input=True,
        bytes_per_pixel=14,
        smooths=False,
    ),
    "reading": Estimator(
        sigma=_read,
        title="How surely a text reader reads each word, here and in the enlarged input",
        radius=lambda _: None,
        needs_input=True,
        bytes_per_pixel=14,
        smooths=False,
        reads=True,
    ),
    "patch_variance": Estimator(
        sigma=lambda accumulator: _smoothed(
            accumulator.patch_variance(accumulator.settings.kernel, accumulator.settings.size),
            accumulator.settings,
        ),
        title="Patch variance (the paper's formula)",
        radius=_window_radius,
        window=lambda settings: settings.size,
        # Three planes of float64 beside the sums.
        bytes_per_pixel=36,
    ),
    "pixel_variance": Estimator(
        sigma=lambda accumulator: _smoothed(accumulator.pixel_variance(), accumulator.settings),
        title="Variance of each pixel",
        radius=_blur_radius,
        least_samples=2,
    ),
}
"""σ by name. Their formulae, for the M samples μ of a request:

`pixel_variance` is the paper's σ^var, the variance over the samples summed over the normalised Lab
channels. `patch_variance` is the paper's σ^ker read literally, E_M[μ² * K] − (E_M[μ * K])²; it also
measures local contrast, with one sample that alone. `smoothed_variance` is K * σ^var. `departure`
is the larger of G_b * ‖E_M[μ] − E‖₁ for two Gaussian blurs G_b, E the enlarged input. `fitted`
weighs variance and what the samples add to E against the texture of the mean image. `reading` is
`ReadPage`.
"""
