"""The client that work is done for."""

from contextvars import ContextVar

current_client: ContextVar[str] = ContextVar("current_client", default="")
"""For whom this task works: a key's name or an address; empty for the service itself."""
