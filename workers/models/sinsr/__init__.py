"""SinSR, one-step diffusion super-resolution ×4 (Wang et al. 2024), written for inference.

An independent implementation that loads the published weight files; the files themselves are
the operator's to bring (their licence is non-commercial).
"""
