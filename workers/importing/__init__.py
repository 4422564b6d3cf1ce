"""Makes an embedded upscaler of a model file: a checked ONNX file, and its configuration."""
