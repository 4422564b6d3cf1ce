"""How the M sample seeds of a request follow from its one seed.

One rule serves every upscaler. A generative model takes a sample seed as it is. A deterministic
model is sampled through its symmetry group (`app/upscalers/symmetry.py`) *without* replacement: the
element is `seed % 96`, and the seeds have distinct residues, the eight dihedral elements first. So
splitting seeds over calls, processes or machines never changes what is drawn.
"""

from __future__ import annotations

import numpy as np

DIHEDRAL = 8
GROUP_ORDER = 96
"""Elements of dihedral x channel permutation x intensity inversion: 8 · 6 · 2."""

_LARGEST = 2**31 - 1  # the largest seed that every known API takes
MAX_REQUEST_SEED = 2**63 - 1


def sample_seeds(seed: int, count: int) -> list[int]:
    """`count` distinct sample seeds in [1, 2^31 − 1], a pure function of `seed`.

    Seed 0 is never used, because several APIs read it as "random". The first eight seeds have the
    residues 0..7 modulo 96 in random order, the next the remaining ones in random order, so up to
    96 seeds stand for distinct group elements.

    Raises:
        ValueError: `seed` outside [0, 2^63 − 1] or `count` < 1.
    """
    if not 0 <= seed <= MAX_REQUEST_SEED:
        raise ValueError(f"seed must be between 0 and 2^63 - 1, got {seed}")
    if count < 1:
        raise ValueError(f"at least one sample is needed, got {count}")
    random = np.random.Generator(np.random.PCG64(seed))
    seeds: list[int] = []
    taken: set[int] = set()
    while len(seeds) < count:
        elements = np.concatenate(
            [random.permutation(DIHEDRAL), DIHEDRAL + random.permutation(GROUP_ORDER - DIHEDRAL)]
        )
        for element in elements[: count - len(seeds)]:
            candidate = 0
            while candidate == 0 or candidate in taken:
                block = int(random.integers(1, _LARGEST // GROUP_ORDER))
                candidate = block * GROUP_ORDER + int(element)
            taken.add(candidate)
            seeds.append(candidate)
    return seeds
