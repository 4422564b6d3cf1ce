"""The worker: image-to-image models behind the Open Inference Protocol, and all that needs torch."""
