"""Upscalers behind an HTTP API.

Adapters translate wire formats, `upstream.py` alone touches the network, and
`upscalers/resilience` wraps every adapter with retries and limits.
"""
