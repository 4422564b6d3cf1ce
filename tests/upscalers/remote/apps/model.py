"""The models behind the test servers, and one that a worker of ours serves too."""

import numpy as np
from PIL import Image

SCALE = 2


def upscale(rgb, seed, scale=SCALE):
    """Bicubic, plus noise from the seed: uint8 [h, w, 3] to uint8 [k h, k w, 3]."""
    height, width = rgb.shape[:2]
    large = Image.fromarray(rgb).resize((width * scale, height * scale), Image.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 4, (height * scale, width * scale, 3))
    return np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8)


def textured(rgb, seed, scale=SCALE):
    """Every pixel repeated, darker, and a texture that the seed moves; the same bytes anywhere.

    The texture is what makes it more than a resize, which the gateway would refuse.
    """
    large = rgb.repeat(scale, axis=0).repeat(scale, axis=1)
    rows, columns = np.ogrid[: large.shape[0], : large.shape[1]]
    texture = (7 * rows + 13 * columns + seed) % 64
    return large // 2 + texture[..., np.newaxis].astype(np.uint8)
