"""The score σ: where an upscaler may be wrong, from its samples, their texture and a fit."""
