"""What the paper compares with (its §4, "Baselines"): pure functions on the same samples.

`intervals` is Angelopoulos et al. 2022b (an interval per pixel), `weights` is Kutiel et al. 2023 (a
continuous mask, without a valid guarantee). Neither is served; they show what a reader gets from
each method on the same images.
"""
