"""Upscalers behind an HTTP API.

Adapters translate wire formats, `http.py` alone touches the network, and
`app/upscalers/resilience.py` wraps every adapter with retries and limits.
"""
