"""Calibrations: made from (X, Y) pairs, kept as immutable documents, exchanged as one file."""
