"""`trustscale openapi`: the HTTP API as a document."""

from __future__ import annotations

import json

import typer

from app.main import create_app
from app.settings import Settings


def openapi() -> None:
    """Print the OpenAPI document of the HTTP API, as /openapi.json serves it."""
    typer.echo(json.dumps(create_app(Settings()).openapi(), indent=1, ensure_ascii=False))
