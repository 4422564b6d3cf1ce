"""What commands print: results as text or JSON, and the service's sentences reworded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import typer

T = TypeVar("T")


def output(answer: T, write: Callable[[T], str], *, as_json: bool) -> None:
    """Print a command's result as JSON, or as text that is not empty."""
    text = json.dumps(answer, indent=2) if as_json else write(answer)
    if text:
        typer.echo(text)


def json_line(document: Mapping[str, Any]) -> None:
    """Print one result of possibly several as a line of JSON, in ASCII for any terminal."""
    typer.echo(json.dumps(document))


def lines(
    write: Callable[[dict[str, Any]], str], nothing: str = ""
) -> Callable[[list[dict[str, Any]]], str]:
    """Make a formatter of lists: a line for each row, or `nothing`."""
    return lambda rows: "\n".join(map(write, rows)) or nothing


def in_command_words(text: str) -> str:
    """Reword a sentence of the service: names of fields become options of the command."""
    fields = (
        "mask|stretch|bands|page|background|fit|to|scale|guarantee|format|quality|metadata|enlarged"
    )
    text = text.replace("without_promise=true", "--yes")
    return re.sub(rf"\b({fields})=(?=[\w#])", r"--\1 ", text)
