"""Upscalers behind somebody else's HTTP API.

The adapters translate wire formats and nothing else; `http.py` is the only module that touches
the network, `app/upscalers/resilience.py` wraps every adapter with retries and limits.
"""
