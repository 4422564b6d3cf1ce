"""Random numbers for the damage that makes X: a stream of its own for each thing that is drawn."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn; the quality of a file by its field of `Degradation`."""

    NOISE = 1
    HOLES = 2
    MIXTURE = 3
    JPEG = 4
    WEBP = 5
    BEFORE = 6
    AVIF = 7
    BLUR = 8
    ENLARGED = 9
    SHARPENED = 10
    VARIATION = 11
    SUBJECT = 12
    MOTION = 13
    PATCH = 14
    CUT = 15
    HEIC = 16
    SHRUNK = 17


def stream(seed: int, drawn: Stream) -> np.random.Generator:
    """Return a random generator that is independent for each thing drawn and each seed.

    A pair's seed also chooses its samples, and the damage of a real input is independent of them.
    """
    key = (int(drawn),)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
