"""JSON pointers (RFC 6901), with one addition: `*` stands for every element of an array."""

from __future__ import annotations

from typing import Any


def find(document: Any, pointer: str) -> list[Any]:
    """Every value that the pointer names; empty when there is none.

    The empty pointer names the document itself. A pointer without `*` names at most one value.
    """
    if pointer == "":
        return [document]
    if not pointer.startswith("/"):
        return []
    values = [document]
    for raw in pointer[1:].split("/"):
        token = raw.replace("~1", "/").replace("~0", "~")
        values = [found for value in values for found in _step(value, token)]
    return values


def first(document: Any, pointer: str) -> Any:
    """The first value that the pointer names, or None."""
    return next(iter(find(document, pointer)), None)


def _step(value: Any, token: str) -> list[Any]:
    if isinstance(value, list):
        if token == "*":  # noqa: S105 - a wildcard
            return value
        if token.isascii() and token.isdigit() and int(token) < len(value):
            return [value[int(token)]]
    elif isinstance(value, dict) and token in value:
        return [value[token]]
    return []
