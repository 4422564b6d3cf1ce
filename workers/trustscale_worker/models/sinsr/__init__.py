"""SinSR, one-step diffusion super-resolution ×4 (Wang et al. 2024), written for inference.

It loads the published weight files, which the operator must provide (their licence is
non-commercial).
"""
