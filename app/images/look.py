"""Which images look alike: copies in another size or form, and neighbouring frames.

A look is 256 bits: whether each cell of a 16×16 grey reduction is lighter than its left neighbour.
Looks of one picture differ in few bits.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from PIL import Image

from app.conformal.lab import Pixels, shallow

_SIDE: Final = 16
_BYTES: Final = _SIDE * _SIDE // 8
_MOST_BITS: Final = 24
_NAMED: Final = 5
_MOST_IMAGES: Final = 20_000  # that are compared with each other


def look_of(rgb: Pixels) -> int:
    """The look of an image, [H, W, 3], as a number below 2^256."""
    grey = (
        Image.fromarray(shallow(rgb)).convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    )
    cells = np.asarray(grey).astype(np.int16)
    return int.from_bytes(np.packbits(np.diff(cells, axis=1) > 0).tobytes(), "big")


def alike_in_words(names: Sequence[str]) -> str:
    """The note on images that look alike."""
    more = ", …" if len(names) > _NAMED else ""
    return (
        f"{', '.join(names[:_NAMED])}{more} look alike, as crops of one scene do: name their "
        "scene, or the promise counts them too often."
    )


def near_duplicates(images: Sequence[tuple[str, Hashable | None, int]]) -> list[list[str]]:
    """Sets of names of images that look alike, unless they name one scene already.

    Args:
        images: (name, scene or None, look) of each.
    """
    if len(images) > _MOST_IMAGES:
        return []
    looks = np.array(
        [list(look.to_bytes(_BYTES, "big")) for _, _, look in images], np.uint8
    ).reshape(-1, _BYTES)
    leader = list(range(len(images)))
    for place in range(1, len(images)):
        differing = np.bitwise_count(looks[:place] ^ looks[place]).sum(axis=1)
        for other in np.flatnonzero(differing <= _MOST_BITS):
            scene = images[place][1]
            if scene is None or scene != images[int(other)][1]:
                leader[place] = leader[int(other)]
                break
    sets: dict[int, list[str]] = {}
    for place, first in enumerate(leader):
        sets.setdefault(first, []).append(images[place][0])
    return [names for names in sets.values() if len(names) > 1]
