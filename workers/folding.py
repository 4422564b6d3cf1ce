"""Folds samples into the integers from which the gateway makes σ, so that they need not travel.

On the CPU this is the gateway's own code. On a GPU the same tables are looked up and the same
operations rounded one by one, so the integers are the same too.
"""

import numpy as np
from numpy.typing import NDArray

from app.conformal.folding import UNIT, Folded, Sums
from app.conformal.lab import XYZ_FIELD, XYZ_WIDTH, lab_tables

__all__ = ["fold", "fold_in_torch"]


def fold(samples: NDArray[np.uint8], device: str) -> Sums:
    """The sums of samples.

    Args:
        samples: uint8[M, H, W, 3].
        device: that of the model, such as "cuda:0".
    """
    if device.startswith("cuda"):
        return fold_in_torch(samples, device)
    folded = Folded(samples.shape[1:3])
    for sample in samples:
        folded.add(sample)
    return folded.folded(samples[0])


def fold_in_torch(samples: NDArray[np.uint8], device: str) -> Sums:
    """The same on a device of torch."""
    import torch  # noqa: PLC0415  workers of ONNX files do without

    red_green, blue, f = (torch.from_numpy(table).to(device) for table in lab_tables())
    pixels = samples.shape[1] * samples.shape[2]
    sums = torch.zeros((3, pixels), dtype=torch.int32, device=device)
    squares = torch.zeros(pixels, dtype=torch.int64, device=device)
    for sample in samples:
        rgb = torch.tensor(sample, device=device).reshape(-1, 3).int()
        xyz = red_green[rgb[:, 0] << 8 | rgb[:, 1]] + blue[rgb[:, 2]]
        x, y, z = (f[(xyz >> shift) & XYZ_FIELD] for shift in (2 * XYZ_WIDTH, XYZ_WIDTH, 0))
        lightness = (y * 1.16 - 0.16).clamp_(min=0)
        a = (x - y) * (500 / 254) + 0.5
        b = (y - z) * (200 / 254) + 0.5
        lab = (torch.stack([lightness, a, b]) * float(UNIT)).round_()
        sums += lab.int()
        squares += (lab.long() ** 2).sum(0)
    return Sums(len(samples), samples[0], sums.cpu().numpy(), squares.double().cpu().numpy())
