"""The paper's baselines (its §4): pure functions on the same samples."""
