"""From pixels to network tensors, and back."""

import numpy as np
import torch
from numpy.typing import DTypeLike

from app.upscalers.base import RGB
from workers.errors import ModelFailed


def to_tensor(image: RGB, device: torch.device | str = "cpu") -> torch.Tensor:
    """From [h, w, 3] of 8 or 16 bits to float32[1, 3, h, w] in [0, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return pixels.permute(2, 0, 1)[None].float() / np.iinfo(image.dtype).max


def to_pixels(image: torch.Tensor, dtype: DTypeLike = np.uint8) -> RGB:
    """From float32[3, H, W] to uint8 or uint16 [H, W, 3]: clamped to [0, 1], rounded half to even.

    Raises:
        ModelFailed: see `finite`.
    """
    rounded = finite(image).clamp(0, 1).mul_(np.iinfo(dtype).max).round_()
    rounded = rounded.to(torch.uint8 if dtype == np.uint8 else torch.int32)
    return rounded.permute(1, 2, 0).contiguous().cpu().numpy().astype(dtype, copy=False)


def finite(values: torch.Tensor) -> torch.Tensor:
    """The values; raises ModelFailed if some are infinite or NaN.

    NaN would become black, or some code, in all samples: a mask would trust it.
    """
    smallest_and_largest = torch.stack(values.aminmax())  # NaN if any value is
    if not smallest_and_largest.isfinite().all():
        raise ModelFailed(
            "the network gave values that are not finite; in half precision they may be too large"
        )
    return values
