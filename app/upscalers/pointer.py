"""JSON pointers (RFC 6901), with one addition: `*` stands for every element of an array."""

from __future__ import annotations

import re
from typing import Any, Final

from jsonpointer import EndOfList, JsonPointer, JsonPointerException

_EVERY: Final = re.compile(r"/\*(?=/|$)")
_NOTHING: Final = object()


def find(document: Any, pointer: str) -> list[Any]:
    """Every value that the pointer names; empty when there is none.

    The empty pointer names the document itself. A pointer without `*` names at most one value.
    """
    where, *rest = _EVERY.split(pointer, maxsplit=1)
    found = JsonPointer(where).resolve(document, _NOTHING)
    if found is _NOTHING or isinstance(found, EndOfList):
        return []
    if not rest:
        return [found]
    return [one for value in found for one in find(value, rest[0])] if type(found) is list else []


def first(document: Any, pointer: str) -> Any:
    """The first value that the pointer names, or None."""
    return next(iter(find(document, pointer)), None)


def checked(pointer: str) -> str:
    """The pointer, if it is one. Raises ValueError."""
    try:
        JsonPointer(pointer)
    except JsonPointerException as error:
        raise ValueError(f"no JSON pointer (RFC 6901): {error}") from error
    return pointer
