"""The worker: image-to-image models behind the Open Inference Protocol.

All code that needs torch is here, so the gateway (`app`) installs without it. Nothing here imports
`app.api`.
"""
