"""The one place where compiled kernels may stand in for numpy: a seam, empty by default.

The numpy code is the specification. A kernel is used only where it gives the same bits, and only
after `app/conformal/proof.py` has shown that it does on this machine; so a calibration does not
notice which of the two measured it. Nothing here imports a compiler: `app/warmup.py` builds the
kernels in a thread of the processes that calibrate, and puts them here when they are ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)


class Kernels(Protocol):
    """What is compiled. Every function releases the interpreter's lock."""

    def f(self, index: NDArray[np.int32]) -> NDArray[np.float32]:
        """The Lab function at these places of its table (`app/conformal/lab.py`)."""
        ...

    def fold(
        self,
        samples: Sequence[NDArray[np.uint8]],
        sums: NDArray[np.int32],
        squares: NDArray[np.float64],
    ) -> None:
        """Add samples to S1 and S2 (`app/conformal/indecision.py`)."""
        ...

    def variance(
        self, sums: NDArray[np.int32], squares: NDArray[np.float64], count: int, scale: float
    ) -> NDArray[np.float32]:
        """(M · S2 − Σ_c S1²) · scale, float32 [n]."""
        ...

    def lab(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalised Lab, float32 [3, H, W], of uint8 [H, W, 3]."""
        ...

    def distance(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """‖u − v‖₁ in normalised Lab, float32 [H, W], of uint8 [H, W, 3]."""
        ...

    def box(self, values: NDArray[Real], size: int) -> NDArray[Real]:
        """Mean over a window of `size` pixels, borders reflected."""
        ...

    def gaussian(
        self, values: NDArray[np.float32], deviation: float, radius: int
    ) -> NDArray[np.float32]:
        """Gaussian of a radius in pixels, borders reflected."""
        ...

    def order_statistics(
        self, values: NDArray[np.float32], ranks: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The values of these ranks (0: the smallest), float32; values [n], finite and ≥ 0."""
        ...


class _Seam:
    kernels: Kernels | None = None


def kernels() -> Kernels | None:
    """The kernels in use; None: numpy does the work."""
    return _Seam.kernels


def use(chosen: Kernels | None) -> None:
    """Put kernels to use, or None to return to numpy."""
    _Seam.kernels = chosen
