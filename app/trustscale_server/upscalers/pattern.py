"""A small picture that upscalers are tried with."""

from __future__ import annotations

import numpy as np

from trustscale_server.upscalers.base import RGB


def pattern() -> RGB:
    """Return a deterministic picture with edges, texture and smooth parts, uint8 [96, 96, 3]."""
    side = 96
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    rings = 127 + 60 * np.sin(np.hypot(x - 30, y - 40) / 2.5)
    ramp = 40 + 1.6 * x
    board = 200.0 * (((x // 7).astype(int) + (y // 5).astype(int)) % 2)
    grain = np.random.default_rng(1).normal(0, 12, (side, side))
    planes = [rings + grain, np.where(x > 55, board, ramp), 0.5 * rings + 0.5 * ramp - grain]
    picture: RGB = np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)
    return picture
