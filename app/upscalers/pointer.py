"""JSON pointers (RFC 6901), where `*` stands for every element of an array; and placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final

from jsonpointer import EndOfList, JsonPointer, JsonPointerException
from pydantic import AfterValidator, Field

PLACEHOLDER: Final = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_EVERY: Final = re.compile(r"/\*(?=/|$)")
_NOTHING: Final = object()
# A data URI, a link, or the first letters of PNG, JPEG, WebP, AVIF and GIF in base64.
_IMAGE: Final = re.compile(r"data:image/|https?://|iVBORw0KGgo|/9j/|UklGR|AAAA.{5}0eXBhdm|R0lGOD")
_MOST_NAMED: Final = 12
_MOST_LETTERS: Final = 100


def find(document: Any, pointer: str) -> list[Any]:
    """Every value that the pointer names; without `*` at most one."""
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


Pointer = Annotated[str, AfterValidator(checked), Field(description="JSON pointer, RFC 6901.")]


def images(document: Any) -> list[str]:
    """Pointers to what looks like an image; links last."""
    found = [leaf for leaf in islice(_leaves(document, ""), 10_000) if _is_image(leaf[1])]
    return [place for place, _ in sorted(found, key=lambda leaf: leaf[1].startswith("http"))]


def outline(document: Any) -> str:
    """A dozen pointers of a document without values: "/id, /output/0 (looks like an image)"."""
    leaves = list(islice(_leaves(document, ""), 10_000))
    leaves.sort(key=lambda leaf: not _is_image(leaf[1]))
    named = [
        pointer[:_MOST_LETTERS] + (" (looks like an image)" if _is_image(value) else "")
        for pointer, value in leaves[:_MOST_NAMED]
    ]
    more = ["…"] if len(leaves) > _MOST_NAMED else []
    return ", ".join([*named, *more]) or "nothing"


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and _IMAGE.match(value) is not None


def _leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Pointers and values of everything but objects and arrays."""
    waiting = [(pointer, value)]
    while waiting:
        pointer, value = waiting.pop()
        if isinstance(value, dict):
            parts = [(JsonPointer.from_parts([name]).path, one) for name, one in value.items()]
        elif isinstance(value, list):
            parts = [(f"/{place}", one) for place, one in enumerate(value)]
        else:
            yield pointer, value
            continue
        waiting += [(pointer + part, one) for part, one in reversed(parts)]


def fill(tree: Any, values: dict[str, Any]) -> Any:
    """The tree with placeholders replaced; KeyError if one has no value."""
    if isinstance(tree, dict):
        return {key: fill(item, values) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [fill(item, values) for item in tree]
    if not isinstance(tree, str):
        return tree
    whole = PLACEHOLDER.fullmatch(tree)
    if whole:
        return values[whole.group(1)]
    return PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), tree)
