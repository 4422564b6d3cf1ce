"""JSON by pointer (RFC 6901), where `*` stands for every element of an array."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from jsonpointer import EndOfList, JsonPointer, JsonPointerException
from pydantic import AfterValidator, Field

_NOTHING: Final = object()
# A data URI, a link, or the first letters of PNG, JPEG, WebP, AVIF and GIF in base64.
_IMAGE: Final = re.compile(r"data:image/|https?://|iVBORw0KGgo|/9j/|UklGR|AAAA.{5}0eXBhdm|R0lGOD")
_MAX_NAMED: Final = 12
_MAX_POINTER: Final = 1000


def find_all(document: Any, pointer: str) -> list[Any]:
    """Return every value that the pointer names; without `*` at most one."""
    before, *after = re.split(r"/\*(?=/|$)", pointer, maxsplit=1)
    resolved = JsonPointer(before).resolve(document, _NOTHING)
    if resolved is _NOTHING or isinstance(resolved, EndOfList):
        return []
    if not after:
        return [resolved]
    if type(resolved) is not list:
        return []
    return [value for element in resolved for value in find_all(element, after[0])]


def first(document: Any, pointer: str) -> Any:
    """Return the first value that the pointer names, or None."""
    return next(iter(find_all(document, pointer)), None)


def valid_pointer(pointer: str) -> str:
    """Return the pointer, or raise ValueError if it is none."""
    try:
        JsonPointer(pointer)
    except JsonPointerException as error:
        raise ValueError(f"no JSON pointer (RFC 6901): {error}") from error
    return pointer


Pointer = Annotated[
    str, AfterValidator(valid_pointer), Field(description="JSON pointer, RFC 6901.")
]


def images(document: Any) -> list[str]:
    """Return pointers to what looks like an image; links last."""
    candidates = [leaf for leaf in leaves(document) if _is_image(leaf[1])]
    return [place for place, _ in sorted(candidates, key=lambda leaf: leaf[1].startswith("http"))]


def outline(document: Any) -> str:
    """Return a dozen pointers of a document, without values.

    Such as "/id, /output/0 (looks like an image)".
    """
    ordered = sorted(leaves(document), key=lambda leaf: not _is_image(leaf[1]))
    named = [
        pointer[:100] + (" (looks like an image)" if _is_image(value) else "")
        for pointer, value in ordered[:_MAX_NAMED]
    ]
    more = ["…"] if len(ordered) > _MAX_NAMED else []
    return ", ".join([*named, *more]) or "nothing"


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and _IMAGE.match(value) is not None


def leaves(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the pointer and value of everything that is no object or array.

    Objects with very long pointers are not looked into, and no more than 10,000 values are.
    """
    waiting = [iter([("", document)])]
    for _ in range(10_000):
        while (leaf := next(waiting[-1], None)) is None:
            waiting.pop()
            if not waiting:
                return
        pointer, value = leaf
        if isinstance(value, dict | list) and len(pointer) < _MAX_POINTER:
            waiting.append(_steps(pointer, value))
        else:
            yield pointer[:_MAX_POINTER], value


def _steps(pointer: str, value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        return ((f"{pointer}/{place}", item) for place, item in enumerate(value))
    named = ((name[:_MAX_POINTER], item) for name, item in value.items())
    return ((pointer + JsonPointer.from_parts([name]).path, item) for name, item in named)
