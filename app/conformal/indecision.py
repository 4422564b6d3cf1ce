"""σ: where the M samples of one request disagree (paper §2.2).

The samples are folded, as they arrive and in any order, into two exact integer sums per pixel, from
which every estimator follows. Memory does not depend on M, and the result does not depend on the
order of arrival, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from app.conformal import compiled, learned
from app.conformal.filters import Kernel, gaussian_blur, smooth
from app.conformal.lab import check_rgb, lab_block, pixel_blocks

Estimator = Literal["smoothed_variance", "patch_variance", "pixel_variance", "learned"]

# Samples enter the sums as integers in units of 2^-20. The unit is below the error of the Lab
# tables, and 1,024 samples still fit: the largest product M · S2 stays under 2^63.
_UNIT = np.float32(1 << 20)
MAX_SAMPLES = 1024

# Samples that are folded together by compiled kernels, and what those that wait may hold in memory.
_AT_ONCE = 4
_WAITING_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """How σ is made from the samples.

    estimator: `pixel_variance` is the paper's σ^var, the variance over the samples summed over the
        normalised Lab channels. `patch_variance` is the paper's σ^ker read literally,
        E_M[μ² * K] − (E_M[μ * K])²; it also measures local contrast. `smoothed_variance`, the
        default, is K * σ^var: the smoothing without the contrast. `learned` weighs the variance
        against the texture of the mean image (`learned.py`); the other fields do not touch it.
    kernel, size: the window K, `size` pixels wide; not used by `pixel_variance`.
    blur: standard deviation in pixels of a final Gaussian blur; 0: none.
    clip_quantile: σ is cut at this quantile of its own values before the blur; None: not cut.
    state: which weights `learned` uses. None means those of this program; others can be named, by
        a calibration that was made with them, but not used.

    The defaults were chosen by the mask size they give on photographs (docs/calibration.md).
    """

    estimator: Estimator = "smoothed_variance"
    kernel: Kernel = "box"
    size: int = 7
    blur: float = 4.0
    clip_quantile: float | None = None
    state: str | None = None

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise ValueError(f"estimator must be one of {get_args(Estimator)}")
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be one of {get_args(Kernel)}")
        if not 1 <= self.size <= 511:
            raise ValueError("size must be between 1 and 511 pixels")
        if not 0 <= self.blur <= 256:
            raise ValueError("blur must be between 0 and 256 pixels")
        if self.clip_quantile is not None and not 0 < self.clip_quantile <= 1:
            raise ValueError("clip_quantile must be in (0, 1]")
        if self.state is None:
            object.__setattr__(self, "state", self.live_state)
        elif self.estimator != "learned":
            raise ValueError("only the learned estimator has a state")

    @classmethod
    def of(cls, settings: Settings | Mapping[str, Any] | None) -> Settings:
        """Settings from an instance, a mapping of its fields, or None for the defaults."""
        if isinstance(settings, Settings):
            return settings
        return cls(**(settings or {}))

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @property
    def live_state(self) -> str | None:
        """The state that this program has for the estimator, whatever `state` says."""
        return learned.STATE if self.estimator == "learned" else None

    @property
    def window(self) -> int:
        """The smallest image side, in pixels, on which the window does not exceed the image."""
        return 1 if self.estimator in {"pixel_variance", "learned"} else self.size

    @property
    def local(self) -> bool:
        """Whether σ of a pixel depends on its neighbourhood only, not on most of the image.

        A clip at a quantile does not: content far away decides how much is cut.
        """
        return self.estimator != "learned" and self.clip_quantile in {None, 1}


class Accumulator:
    """Folds samples into σ.

    Args:
        shape: (H, W) of the samples; a trailing channel axis of 3 is accepted.
        settings: `Settings`, a mapping of their fields, or None for the defaults.
    """

    def __init__(
        self, shape: tuple[int, ...], settings: Settings | Mapping[str, Any] | None = None
    ) -> None:
        self.settings = Settings.of(settings)
        self.shape = (int(shape[0]), int(shape[1]))
        self.count = 0
        pixels = self.shape[0] * self.shape[1]
        # S1, the sum of the samples per channel, and S2, the sum of squares over all channels:
        # every estimator sums over the channels, so one plane of squares is enough.
        self.sums = np.zeros((3, pixels), np.int32)
        # float64 holds these integers exactly (1,024 · 3 · 2^40 < 2^53) and adds them faster.
        self.squares = np.zeros(pixels, np.float64)
        # Compiled, several samples are folded in one pass over the sums: they wait here for it.
        self._waiting: list[NDArray[np.uint8]] = []

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """Fold one sample, uint8 [H, W, 3], which must not be changed afterwards.

        Raises:
            ValueError: another shape or dtype, or more than `MAX_SAMPLES` samples.
        """
        check_rgb(rgb)
        if rgb.shape[:2] != self.shape:
            raise ValueError(f"expected a sample of {self.shape}, got {rgb.shape[:2]}")
        if self.count == MAX_SAMPLES:
            raise ValueError(f"at most {MAX_SAMPLES} samples can be folded")
        self.count += 1
        if compiled.kernels() is None:
            self._fold(rgb)
            return
        self._waiting.append(rgb)
        at_once = len(self._waiting) + 1  # with the next one
        if at_once > _AT_ONCE or at_once * rgb.nbytes > _WAITING_BYTES:
            self._settle()

    def _fold(self, rgb: NDArray[np.uint8]) -> None:
        pixels = rgb.reshape(-1, 3)
        for block in pixel_blocks(len(pixels)):
            lab = np.empty((3, block.stop - block.start), np.float32)
            lab_block(pixels[block], lab)
            lab *= _UNIT
            np.rint(lab, out=lab)
            self.sums[:, block] += lab.astype(np.int32)
            square = lab.astype(np.float64)
            square *= square
            for channel in square:
                self.squares[block] += channel

    def _settle(self) -> None:
        """Fold the samples that wait."""
        waiting, self._waiting = self._waiting, []
        if kernels := compiled.kernels():
            kernels.fold(waiting, self.sums, self.squares)
        else:
            for rgb in waiting:
                self._fold(rgb)

    def pixel_variance(self) -> NDArray[np.float32]:
        """σ^var before smoothing: Σ_c Var_M over the channels, float32 [H, W] ≥ 0 (paper §2.2).

        Raises:
            ValueError: no sample has been added.
        """
        if self.count == 0:
            raise ValueError("no samples have been added")
        self._settle()
        if kernels := compiled.kernels():
            variance = kernels.variance(self.sums, self.squares, self.count, self.scale)
            return variance.reshape(self.shape)
        variance = np.empty(self.squares.shape, np.float32)
        for block in pixel_blocks(len(variance)):
            variance[block] = self._spread(block) * self.scale
        return variance.reshape(self.shape)

    @property
    def scale(self) -> float:
        """What turns M · S2 − Σ_c S1² into a variance."""
        return 1.0 / (self.count * float(_UNIT)) ** 2

    def _spread(self, block: slice) -> NDArray[np.int64]:
        """M · S2 − Σ_c S1² in integers: exact, so equal samples give exactly zero."""
        sums = self.sums[:, block].astype(np.int64)
        squares = self.squares[block].astype(np.int64)
        return np.asarray(self.count * squares - np.einsum("cn,cn->n", sums, sums))

    def identical(self) -> bool:
        """Whether all samples so far are the same image (never true of fewer than two)."""
        self._settle()
        return self.count > 1 and not any(
            self._spread(block).any() for block in pixel_blocks(len(self.squares))
        )

    def result(self) -> NDArray[np.float32]:
        """σ, float32 [H, W], finite and ≥ 0.

        Raises:
            ValueError: no sample has been added, or the settings name weights that are not here.
        """
        settings = self.settings
        if settings.state != settings.live_state:
            raise ValueError(
                f"σ was learned as {settings.state!r}; here is {settings.live_state!r}"
            )
        sigma = self.pixel_variance()
        if settings.estimator == "learned":
            return learned.sigma(sigma, self.mean_lab())
        if settings.estimator == "smoothed_variance":
            sigma = smooth(sigma, settings.kernel, settings.size)
        elif settings.estimator == "patch_variance":
            sigma = self._patch_variance()
        if settings.clip_quantile is not None and settings.clip_quantile < 1:
            sigma = np.minimum(sigma, np.float32(np.quantile(sigma, settings.clip_quantile)))
        sigma = gaussian_blur(sigma, settings.blur)
        return np.maximum(sigma, np.float32(0))  # running sums may leave −1e-20; also −0 becomes 0

    def mean_lab(self) -> NDArray[np.float32]:
        """E_M[μ], the mean of the samples in normalised Lab, float32 [3, H, W]."""
        self._settle()
        mean = self.sums.astype(np.float32)
        mean *= np.float32(1.0 / (self.count * float(_UNIT)))
        return mean.reshape(3, *self.shape)

    def _patch_variance(self) -> NDArray[np.float32]:
        """Σ_c E_M[μ² * K] − (E_M[μ * K])², float32 [H, W] (paper §2.2, σ^ker, literally).

        K is linear, so E_M may be taken first. The difference cancels leading digits; float64
        keeps the variance of flat regions above the rounding noise.
        """
        self._settle()
        kernel, size = self.settings.kernel, self.settings.size
        unit = self.count * float(_UNIT)
        square = (self.squares / (unit * float(_UNIT))).reshape(self.shape)
        patch = smooth(square, kernel, size)
        for channel in self.sums:
            patch -= smooth((channel / unit).reshape(self.shape), kernel, size) ** 2
        return np.maximum(patch, 0).astype(np.float32)
