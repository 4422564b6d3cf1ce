"""σ: where a prediction may be wrong, from the M samples of one request and its input (§2.2).

A calibration holds for any σ: one that suits other pictures gives a smaller mask, never a broken
promise. Only, it must not be fitted to the pairs that calibrate it, so a `Fit`, the weights of the
terms of `features.py`, names its photographs.

To add an estimator, write a function of the accumulated samples and enter its row in `ESTIMATORS`,
which forms, commands, checks, admission and answers read.

**σ of words** says how likely a word that a reader reads in Ŷ is to be read otherwise in the truth.
The reader reads Ŷ, and the plain enlargement E of the input in the same places. A logistic function
of five numbers about each word is its score, painted into its box:

    log σ = w₀ + Σ_j w_j f_j

Where a line of text is found, in Ŷ or in E, and half of it is no word of Ŷ, σ is `UNREADABLE`;
elsewhere `NO_TEXT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from trustscale_server.pixels.filters import Kernel, gaussian_blur, gaussian_radius, smooth
from trustscale_server.pixels.lab import Seen
from trustscale_server.sampling.sigma.features import MapFn, OnRows
from trustscale_server.sampling.sigma.fits import BLURS, Fit
from trustscale_server.sampling.sigma.moments import Moments, PixelRows
from trustscale_server.sampling.sigma.words import ReadingFit, ReadPage, shipped_reading, sigma

T = TypeVar("T")

_STRIP = 64  # rows of σ that are looked at together


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
    is_for_text: whether it needs what a text reader reads, which a metric of words brings.
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
    is_for_text: bool = False


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
        if self.spec.is_for_text:
            object.__setattr__(self, "reading", self.reading or shipped_reading())
        elif self.reading is not None:
            raise ValueError("weights of words belong to the estimator reading")
        if self.spec.takes_fit != (self.fit is not None):
            raise ValueError("a fit belongs to the estimator fitted, and only to it")
        named = [name for fit in self.fits for name in fit.classes]
        if self.fits and self.fit is None:
            raise ValueError("fits of some classes need a fit for the others")
        if not all(fit.classes for fit in self.fits) or len(set(named)) < len(named):
            raise ValueError("each of the fits names its classes, and no class has two")

    @property
    def spec(self) -> Estimator:
        """The estimator's row."""
        return ESTIMATORS[self.estimator]

    @property
    def window(self) -> int:
        """The smallest image side, in pixels, that holds the window."""
        return self.spec.window(self)

    @property
    def radius(self) -> int | None:
        """How far σ of a pixel looks, in pixels; None is most of the image."""
        return self.spec.radius(self)

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
        return self.spec.needs_input and (not fits or any(fit.needs_input for fit in fits))

    @property
    def least_samples(self) -> int:
        """The M from which on σ is defined."""
        return max(self.spec.least_samples, *(fit.least_samples for fit in self.all_fits), 1)


class Accumulator(Moments):
    """Accumulates samples for σ.

    All but `settings` is of `Moments`; only some estimators (`needs_input`) need `enlarged`.

    page: what was read in Ŷ, for the σ of words; it is known when all samples are there.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        settings: IndecisionSettings | None = None,
        enlarged: PixelRows | None = None,
        samples: int | None = None,
        *,
        facts: Mapping[str, float] | None = None,
        truth: Seen | None = None,
    ) -> None:
        super().__init__(shape, enlarged, samples, facts=facts, truth=truth)
        self.settings = settings or IndecisionSettings()
        self.page: ReadPage | None = None

    def result(self) -> NDArray[np.float32]:
        """Return σ, float32 [H, W], finite and ≥ 0.

        Raises:
            ValueError: too few samples have been added, or the enlarged input is missing.
        """
        self._check_enough()
        return self.settings.spec.sigma(self)

    def _check_enough(self) -> None:
        self.raise_if_empty()
        if self.count < self.settings.least_samples:
            raise ValueError(
                f"{self.settings.estimator} needs at least {self.settings.least_samples} samples"
            )

    def strips(self, on_rows: OnRows[T], map_fn: MapFn = map) -> Iterable[T]:
        """Call `on_rows` for all rows of `result`, a strip at a time; a fitted σ is never whole.

        `on_rows` may change its rows; what it returns is passed on. `map_fn` goes through the
        strips, as `map` does, or in threads. Raises ValueError as `result`.
        """
        fit = self.settings.fit
        if fit is not None:
            self._check_enough()
            return fit.strips(self, on_rows, map_fn)
        sigma = self.result()
        return map_fn(
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
    for plane, blur in zip((departure, wide), BLURS, strict=True):
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
        radius=lambda _: gaussian_radius(max(BLURS)),
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
        is_for_text=True,
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
