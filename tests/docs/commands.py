"""The commands of the program, as it knows them."""

from __future__ import annotations

from typing import Any

import typer.main

from app.cli.main import app


def all_commands() -> list[tuple[str, Any]]:
    """Every command with its full name, groups of commands too."""
    found = [("trustscale", typer.main.get_command(app))]
    for name, command in found:  # which grows meanwhile
        inner = getattr(command, "commands", {})
        found += [(f"{name} {word}", one) for word, one in inner.items()]
    return found
