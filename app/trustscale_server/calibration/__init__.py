"""Calibrations: immutable documents, which one file exchanges; `calibrating` makes them."""
