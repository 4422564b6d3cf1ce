"""Maps of σ and D as hypothesis makes them: few levels, so that ties and plateaus are the rule."""

from functools import partial

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from trustscale_server.conformal import HighProbabilityCurve, LossCurve, RiskCurve
from trustscale_server.sampling.sigma.estimators import Accumulator

BOUND, DELTA = 2.0, 0.1

CURVES = {
    "expectation": RiskCurve.from_calibration_set,
    "high_probability": partial(HighProbabilityCurve.from_calibration_set, delta=DELTA),
}
"""Every guarantee, by name."""

LEVELS = st.sampled_from([0.0, -0.0, 1e-40, 1e-9, 0.25, 0.25 + 2**-20, 0.5, 1.0, 3.0])
SMOOTH = st.floats(0, 1, width=32)
ERRORS = st.one_of(st.sampled_from([0.0, 0.125, 0.5, BOUND]), st.floats(0, BOUND, width=32))


def maps():
    shape = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
    return shape.flatmap(
        lambda s: st.tuples(
            hnp.arrays(np.float32, s, elements=st.one_of(LEVELS, SMOOTH)),
            hnp.arrays(np.float32, s, elements=ERRORS),
        )
    )


def images(min_size=0, max_size=6):
    return st.lists(maps(), min_size=min_size, max_size=max_size)


ALPHAS = st.one_of(
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, BOUND, 3.0]), st.floats(0, 2.5, allow_nan=False)
)


def staircases_of(images):
    return [LossCurve.from_maps(sigma, error) for sigma, error in images]


NEVER = LossCurve([], [])
"""The loss curve of an image without error."""


def samples(count=5, height=24, width=31, seed=0):
    """Samples of a smooth picture, uint8 [M, H, W, 3], that differ by noise."""
    random = np.random.default_rng(seed)
    base = ndimage.gaussian_filter(random.integers(0, 256, (height, width, 3)), (3, 3, 0))
    noise = random.normal(0, 9, (count, height, width, 3))
    return np.clip(base + noise, 0, 255).astype(np.uint8)


def accumulated(stack, config=None, enlarged=None):
    """The samples accumulated, and their σ as `result`."""
    accumulator = Accumulator(stack.shape[1:], config, enlarged, len(stack))
    for sample in stack:
        accumulator.add(sample)
    return accumulator
