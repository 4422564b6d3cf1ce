"""Calibrations: made from (X, Y) pairs, kept as immutable facts, exchanged as one file."""
