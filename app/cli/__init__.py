"""The command line: `trustscale`."""

from app.cli.main import main

__all__ = ["main"]
