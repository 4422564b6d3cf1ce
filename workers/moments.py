"""Accumulates samples to Ŷ and their variance, which transfer in their stead.

The gateway's code does it on a CPU; on a GPU the same tables and rounded operations give the same
bits.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from app.conformal.lab import XYZ_FIELD, XYZ_WIDTH, Pixels, lab_tables
from app.conformal.moments import UNIT, Moments, Spread, mean_image
from app.system import usable_cores


def fold(samples: Pixels, device: str, *, mean: bool = False) -> Spread:
    """The spread of uint8[M, H, W, 3], M >= 2.

    Samples are on the host. `mean`: Ŷ is their mean instead of the first.
    """
    on_gpu = device.startswith("cuda")
    variance = variance_in_torch(samples, device) if on_gpu else _variance(samples)
    prediction = samples[0]
    if mean:
        prediction = mean_image(samples.sum(0, dtype=np.uint32), len(samples))
    return Spread(len(samples), prediction, variance)


def _variance(samples: Pixels) -> NDArray[np.float32]:
    variance = np.empty(samples.shape[1:3], np.float32)

    def part(rows: slice) -> None:
        moments = Moments(variance[rows].shape)
        for sample in samples:
            moments.add(sample[rows])
        variance[rows] = moments.pixel_variance()

    height = -(-len(variance) // usable_cores())
    with ThreadPoolExecutor(usable_cores()) as threads:
        list(threads.map(part, [slice(i, i + height) for i in range(0, len(variance), height)]))
    return variance


def variance_in_torch(samples: Pixels, device: str, block: int = 2**22) -> NDArray[np.float32]:
    """`Moments.pixel_variance` on a device of torch, float32[H, W]; `block` pixels at a time."""
    import torch  # noqa: PLC0415  workers of ONNX files do without

    green_red, blue, f = (torch.from_numpy(table).to(device) for table in lab_tables())
    scale = 1.0 / (len(samples) * float(UNIT)) ** 2
    pixels = samples.reshape(len(samples), -1, 3)
    variance = np.empty(pixels.shape[1], np.float32)
    for first in range(0, len(variance), block):
        sums = squares = torch.zeros((), dtype=torch.int64, device=device)
        for sample in pixels[:, first : first + block]:
            rgb = torch.tensor(sample, device=device).int()
            xyz = green_red[rgb[:, 1] << 8 | rgb[:, 0]] + blue[rgb[:, 2]]
            x, y, z = (f[(xyz >> shift) & XYZ_FIELD] for shift in (2 * XYZ_WIDTH, XYZ_WIDTH, 0))
            lightness = (y * 1.16 - 0.16).clamp_(min=0)
            a = (x - y) * (500 / 254) + 0.5
            b = (y - z) * (200 / 254) + 0.5
            lab = (torch.stack([lightness, a, b]) * float(UNIT)).round_().long()
            sums = sums + lab
            squares = squares + (lab**2).sum(0)
        spread = len(samples) * squares - (sums**2).sum(0)
        variance[first : first + block] = (spread.double() * scale).float().cpu().numpy()
    return variance.reshape(samples.shape[1:3])
