"""Makes an embedded upscaler of a model file: an ONNX file, checked, and its configuration."""
