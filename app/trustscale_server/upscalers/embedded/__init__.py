"""The upscaler inside this process: any ONNX model from RGB to RGB, over overlapping tiles."""
