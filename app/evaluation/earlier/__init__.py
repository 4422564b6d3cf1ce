"""The paper's baselines (its §4): pure functions on the same samples.

`intervals` is Angelopoulos et al. 2022b (an interval per pixel), `weights` is Kutiel et al. 2023 (a
continuous mask, without a valid guarantee).
"""
