"""How wrong a served mask was, once the truth is known.

D is measured as in calibration, between the truth and the served image; the loss is the mean over
the spots of the picture of its maximum over the served mask in each.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from trustscale_server.calibration.insight import COMMON_ALPHAS
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal import fidelity, words
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.decoding.raster import read_values, stored_pixels
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import ImageFile, decoding
from trustscale_server.images.stretch import stretched
from trustscale_server.pixels.boxes import box_of
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.errors import BadImage, BadRequest
from trustscale_server.sampling.spec import raise_if_unmeasurable
from trustscale_server.serving.document import Result
from trustscale_server.serving.stored_answer import read_codes
from trustscale_server.things import reading
from trustscale_server.upscalers.base import RGB


class LossAt(BaseModel):
    """The loss of the mask of an α on the same image."""

    alpha: float
    loss: float


class Measured(BaseModel):
    """What the truth says about one result."""

    result: str
    calibration: str
    alpha: float
    loss: float = Field(
        description="What the promise counts: the mean over the spots of the output of the largest "
        "error in the served mask; of the kind probability the share of those that exceed the "
        "tolerance."
    )
    loss_anywhere: float = Field(description="The largest error in the served mask.")
    within: bool = Field(description="Whether loss ≤ alpha; the promise is about the average.")
    losses: list[LossAt]


@dataclass(frozen=True, slots=True)
class Served:
    """The stored parts of a result: its document, image.png, mask.png and trust.png."""

    result: Result
    image: bytes
    mask: bytes
    trust: bytes


MAX_TRUTH_BYTES = 64 * 1024 * 1024
"""Of an upload: 16 megapixels as PNG, even of noise."""


def footprint_of(result: Result, subset: Subset) -> int:
    """Return how many bytes scoring a result against its truth holds at most."""
    # Both images, one that is being decoded, the mask and σ take 20 bytes per pixel.
    per_pixel = 20 + subset.pipeline.fidelity.spec.bytes_per_pixel
    return result.height * result.width * per_pixel


async def read_truth(
    subset: Subset, served: Served, *, image: ImageFile | None, label: ImageFile | None
) -> RGB:
    """Return what is known of a result, as pixels.

    `image` is Y, for every metric but the semantic one of people; `label`, for that one, is not
    black where the meaning differs. Raises BadInput for a missing, superfluous or unusable file, or
    a missing extra.
    """
    raise_if_unmeasurable(subset.pipeline.fidelity)
    wants_label = subset.pipeline.fidelity.spec.needs_label
    data = label if wants_label else image
    if data is None or (image is not None and label is not None):
        raise BadRequest(
            "The metric of this calibration is drawn by people: send `label`, a PNG that is not "
            "black where the meaning differs."
            if wants_label
            else "Send `image`, the true image of the output's size, and nothing else."
        )
    # A truth has the size of the output, and may be transparent where that is.
    with Image.open(io.BytesIO(served.image)) as picture:
        with_alpha = picture.has_transparency_data
    most = served.result.width * served.result.height
    limits = Limits(max_bytes=MAX_TRUTH_BYTES, max_pixels=most)
    raster = served.result.raster
    if raster is not None and raster.stretch is not None and not wants_label:
        return stretched((await decoding(read_values, data, limits)).values, raster)
    return (await decoding(decode, data, limits, with_alpha=with_alpha)).rgb


def score_mask(subset: Subset, served: Served, pixels: RGB) -> Measured:
    """Measure the losses of a served mask against the pixels of the truth.

    Raises:
        BadImage: they are of another size.
    """
    result, settings = served.result, subset.pipeline.fidelity
    wants_label = settings.spec.needs_label
    prediction = stored_pixels(served.image)  # what is not opaque is in no mask
    mask = np.asarray(Image.open(io.BytesIO(served.mask)), bool)
    if pixels.shape != prediction.shape:
        raise BadImage(
            f"The truth is {pixels.shape[1]}×{pixels.shape[0]}, the output is "
            f"{prediction.shape[1]}×{prediction.shape[0]}."
        )
    drawn = np.asarray(pixels.any(axis=2)) if wants_label else None
    curve, codes = subset.curve, read_codes(served.trust)
    loss_of = subset.guarantee.loss_of
    errors_in = _errors(pixels, prediction, settings, drawn)

    def loss_in(mask: NDArray[np.bool_]) -> float:
        """The mean of the losses of a mask."""
        return float(np.mean([loss_of(error) for error in errors_in(mask)]))

    loss = loss_in(mask)
    return Measured(
        result=result.id,
        calibration=result.calibration,
        alpha=result.alpha,
        loss=loss,
        loss_anywhere=loss_of(max(errors_in(mask))),
        within=loss <= result.alpha,
        losses=[
            LossAt(alpha=alpha, loss=loss_in(curve.mask_of_code(codes, alpha)))
            for alpha in COMMON_ALPHAS
        ],
    )


def _errors(
    truth: RGB, prediction: RGB, settings: FidelitySettings, label: NDArray[np.bool_] | None
) -> Callable[[NDArray[np.bool_]], list[float]]:
    """Of a mask, the error of each part that loses: the largest one, or the share of words."""
    if settings.spec.is_for_text:
        lines = reading.read_lines(to_8_bit(prediction))
        wrong = reading.read_otherwise(lines, to_8_bit(truth))
        boxes = [box_of(word.corners, prediction.shape) for line in lines for word in line.words]
        return lambda mask: [
            words.share_wrong([mask[place][inside].all() for place, inside in boxes], wrong)
        ]
    compared = prediction if label is not None else truth
    error = fidelity.error(compared, prediction, settings, label=label)
    windows = settings.windows(*error.shape)
    return lambda mask: [_worst(error[window], mask[window]) for window in windows]


def _worst(error: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The largest error in the mask; 0 where it is empty."""
    return float(error.max(where=mask, initial=0.0))
