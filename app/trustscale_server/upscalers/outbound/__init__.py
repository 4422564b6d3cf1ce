"""Connections that this service opens to addresses that others name."""
