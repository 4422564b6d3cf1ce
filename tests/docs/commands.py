"""The commands of the program, as it knows them."""

from __future__ import annotations

from typing import Any

import typer.main

from app.cli.main import app


def all_commands() -> list[tuple[str, Any]]:
    """Every command with its full name, groups of commands too."""
    found: list[tuple[str, Any]] = [("trustscale", typer.main.get_command(app))]
    for name, command in found:  # which grows meanwhile
        if hasattr(command, "list_commands"):
            words = command.list_commands(None)
            found += [(f"{name} {word}", command.get_command(None, word)) for word in words]
    return found
