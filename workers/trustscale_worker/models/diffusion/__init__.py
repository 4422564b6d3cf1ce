"""Diffusion pipelines of the library diffusers, as samplers."""
