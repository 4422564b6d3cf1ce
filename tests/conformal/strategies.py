"""Maps of σ and D as hypothesis makes them: few levels, so that ties and plateaus are the rule."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

BOUND = 2.0

LEVELS = st.sampled_from([0.0, -0.0, 1e-40, 1e-9, 0.25, 0.25 + 2**-20, 0.5, 1.0, 3.0])
SMOOTH = st.floats(0, 1, width=32)
ERRORS = st.one_of(st.sampled_from([0.0, 0.125, 0.5, BOUND]), st.floats(0, BOUND, width=32))


def maps():
    """(σ, D) of one image with 1 to 40 pixels."""
    shape = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
    return shape.flatmap(
        lambda s: st.tuples(
            hnp.arrays(np.float32, s, elements=st.one_of(LEVELS, SMOOTH)),
            hnp.arrays(np.float32, s, elements=ERRORS),
        )
    )


def images(min_size=0, max_size=6):
    """The maps of a calibration set."""
    return st.lists(maps(), min_size=min_size, max_size=max_size)


ALPHAS = st.one_of(
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, BOUND, 3.0]), st.floats(0, 2.5, allow_nan=False)
)
