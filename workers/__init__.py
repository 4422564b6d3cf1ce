"""The worker: image-to-image models behind the Open Inference Protocol.

Everything that needs torch lives in this package, so that the gateway (`app`) can be
installed without it. Nothing here imports `app.api`.
"""
