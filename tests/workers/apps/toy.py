"""A model that any Python can run: what our worker and a Triton both serve in the tests."""

import numpy as np


def expected(image, seed, scale):
    """Every pixel repeated, darker, and a texture that the seed moves.

    From uint8 [h, w, 3] to [k h, k w, 3]. The texture is what makes it more than a resize, which
    the gateway would refuse.
    """
    large = image.repeat(scale, axis=0).repeat(scale, axis=1)
    rows, columns = np.ogrid[: large.shape[0], : large.shape[1]]
    texture = (7 * rows + 13 * columns + seed) % 64
    return large // 2 + texture[..., np.newaxis].astype(np.uint8)
