"""Makes an embedded upscaler of a model file."""
