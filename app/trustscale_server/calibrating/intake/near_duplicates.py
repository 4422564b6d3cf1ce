"""Truths that look alike, as crops of one photograph do: their scene should count once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from PIL import Image

from trustscale_server.pixels.lab import Pixels, to_8_bit

_SIDE: Final = 16
_BYTES: Final = _SIDE * _SIDE // 8


def perceptual_hash(rgb: Pixels) -> int:
    """Return the hash of what an image, [H, W, 3], looks like: a number below 2^256.

    Each bit says whether a cell of a 16×16 grey reduction is lighter than its left neighbour.
    Hashes of copies in another size or form, and of neighbouring frames, differ in few bits.
    """
    grey = Image.fromarray(to_8_bit(rgb)).convert("L")
    reduced = grey.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    cells = np.asarray(reduced).astype(np.int16)
    return int.from_bytes(np.packbits(np.diff(cells, axis=1) > 0).tobytes(), "big")


def alike_in_words(names: Sequence[str]) -> str:
    """Return the note on images that look alike."""
    first, more = names[:5], ", …" if names[5:] else ""
    return (
        f"{', '.join(first)}{more} look alike, as crops of one scene do: name their "
        "scene, or the promise counts them too often."
    )


def near_duplicates(images: Sequence[tuple[str, Hashable | None, int]]) -> list[list[str]]:
    """Find sets of images that look alike, unless they name one scene already.

    Args:
        images: (name, scene or None, `perceptual_hash`) of each.
    """
    if len(images) > 20_000:  # each is compared with all before it
        return []
    hashes = np.array(
        [list(perceptual.to_bytes(_BYTES, "big")) for _, _, perceptual in images], np.uint8
    ).reshape(-1, _BYTES)
    firsts: list[int] = []  # of the set that each image belongs to
    for place, (_, scene, _) in enumerate(images):
        differing_bits = np.bitwise_count(hashes[:place] ^ hashes[place]).sum(axis=1)
        alike = np.flatnonzero(differing_bits <= 24).tolist()
        others = (other for other in alike if scene is None or scene != images[other][1])
        known = next(others, None)
        firsts.append(place if known is None else firsts[known])
    sets = defaultdict[int, list[str]](list)
    for first, (name, _, _) in zip(firsts, images, strict=True):
        sets[first].append(name)
    return [names for names in sets.values() if len(names) > 1]
