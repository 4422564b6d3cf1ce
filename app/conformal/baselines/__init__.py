"""What the paper compares with (its §4, "Baselines"): pure functions on the same samples.

`everything` trusts the whole image, `intervals` is Angelopoulos et al. 2022b (an interval per
pixel), `weights` is Kutiel et al. 2023 (a continuous mask, without a valid guarantee). None of them
is served; they show what a reader gets from each method on the same images.
"""

from app.conformal.baselines import everything, intervals, weights

__all__ = ["everything", "intervals", "weights"]
