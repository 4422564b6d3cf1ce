"""An order and a choice of pairs that follow from the content of their files.

Neither depends on the losses of the pairs, which names may: those of cameras, or of days.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

from trustscale_server.calibration.manifest import PairInfo

Scenes = Sequence[Sequence[int]]
"""The places of the pairs of each scene."""


def in_order(pairs: Sequence[PairInfo], scenes: Scenes) -> Scenes:
    """Return the scenes in the order of hashes of their content."""

    def key(place: int) -> bytes:
        pair = pairs[place]
        return hashlib.sha256(f"{pair.x_sha256} {pair.y_sha256}".encode()).digest()

    def key_of_scene(places: Sequence[int]) -> bytes:
        keys = sorted(map(key, places))
        return keys[0] if len(keys) == 1 else hashlib.sha256(b"".join(keys)).digest()

    return sorted(scenes, key=key_of_scene)


def one_of_each(
    pairs: Sequence[PairInfo], weights: Sequence[Fraction], scenes: Scenes
) -> list[PairInfo]:
    """Return one pair of each scene at most, drawn by weight.

    Digests of the files draw. A scene whose pairs weigh w together has a pair with probability w.
    """
    drawn_pairs = []
    for places in scenes:
        digests = sorted(pairs[place].x_sha256 for place in places)
        drawn = int(hashlib.sha256("".join(digests).encode()).hexdigest(), 16)
        ends = accumulate(weights[place] for place in places)
        for place, end in zip(places, ends, strict=True):
            if drawn < end * (1 << 256):
                drawn_pairs.append(pairs[place])
                break
    return drawn_pairs
