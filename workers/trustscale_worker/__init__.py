"""The worker: image-to-image models behind the Open Inference Protocol; all that needs torch."""
