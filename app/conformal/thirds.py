"""Which third of a class a picture belongs to, by its score: pictures that are about as hard.

Let s be the mean log σ of a picture, and of n calibration pictures and a new one, one of each
scene, let r_i = #{j : s_j < s_i} be the rank of picture i among all n + 1. Its third is
⌊3 r_i/(n + 1)⌋: 0, the easiest, to 2.

**The calibration pictures of the new one's third calibrate alone, exactly.** *Proof.* Ranks among
all n + 1 are symmetric in them. So given all n + 1 as a set, and that the new one is of a third,
each member of that third is equally likely to be the new one: they are exchangeable, and conformal
risk control holds for them. ∎ So no scenes are set aside for cuts: the new picture takes part in
every rank, which moves one picture at each cut. Pictures with equal s stay together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THIRDS = ("easy", "usual", "hard")
"""Their names, from the smallest mean log σ."""


def third_of(known: NDArray[np.float64], new: float) -> tuple[int, NDArray[np.bool_]]:
    """The third of a new picture, 0 to 2, and which of the known ones are in it, bool [n].

    Args:
        known: mean log σ of one picture of each scene, float64 [n].
        new: that of the new one.
    """
    ranks = np.searchsorted(np.sort(known), np.append(known, new))
    ranks[:-1] += new < known
    thirds = 3 * ranks // (len(known) + 1)
    return int(thirds[-1]), thirds[:-1] == thirds[-1]
