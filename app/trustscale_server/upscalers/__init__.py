"""Upscalers: opaque image-to-image models, local or remote, behind one protocol."""
