"""Trustscale: upscale an image and say, with a guarantee, where its colours are right."""

__version__ = "0.9.0"
