"""What a model adds: which share of its detail is not in the truth.

With U the enlargement of X without a model, a = Ŷ − U is what the model adds and t = Y − U what
there was to add, in lightness. Around each pixel (a Gaussian of 4 px) ⟨a, t⟩/⟨t, t⟩, cut to [0, 1],
is the part g of t that a holds. ‖a − g t‖²/‖a‖² is the share of the added detail that is not in the
truth: 0 for a model that adds only what is there, 1 for one that invents all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.measure import EvaluatedImage
from trustscale_evaluation.reduce import Method
from trustscale_server.pixels.filters import gaussian_blur
from trustscale_server.pixels.lab import Pixels, normalised_lab
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.spec import MeasurementSpec

_WINDOW: Final = 4.0  # standard deviation in pixels of the output
_TINY: Final = np.float32(1e-12)  # squared lightness where nothing was to be added


@dataclass(slots=True)
class AddedShares(Method):
    """The shares of the test uploads, for the predictions of a pipeline."""

    pipeline: MeasurementSpec
    shares: Sequence[float | None] = ()

    def reduce_test(self, image: EvaluatedImage) -> tuple[float | None]:
        """Return the share of one test upload."""
        pair = image.pair
        return (invented_of_picture(pair.x, image.prediction(self.pipeline), pair.y),)

    def gather(self, images: Sequence[tuple[float | None]]) -> None:
        """Store the shares."""
        self.shares = [share for (share,) in images]

    @property
    def share(self) -> float | None:
        """The mean over the uploads to which something was added; None without any."""
        known = [share for share in self.shares if share is not None]
        return float(np.mean(known)) if known else None


def invented_of_picture(low: Pixels, prediction: Pixels, truth: Pixels) -> float | None:
    """Return the share of the added detail that is not in the truth; None if none was added.

    Of X [h, w, 3], and of Ŷ and Y [H, W, 3].
    """
    enlarged = _lightness(Enlarged(low, len(truth) // len(low))[:])
    added, missing = _lightness(prediction) - enlarged, _lightness(truth) - enlarged
    energy, common, squares = (
        gaussian_blur(product, _WINDOW)
        for product in (added * added, added * missing, missing * missing)
    )
    share = np.clip(common / np.maximum(squares, _TINY), 0, 1)
    invented = energy - 2 * share * common + share * share * squares
    total = float(energy.sum(dtype=np.float64))
    return float(invented.sum(dtype=np.float64)) / total if total > 0 else None


def _lightness(image: Pixels) -> NDArray[np.float32]:
    return np.asarray(normalised_lab(image)[0])
