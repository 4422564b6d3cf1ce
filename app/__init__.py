"""Trustscale: upscale an image and say, with a guarantee, where to believe it."""

__version__ = "0.1.0"
