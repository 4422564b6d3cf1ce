"""Placeholders in descriptions of requests.

A string that is one placeholder takes the value with its type, so `"{seed}"` becomes a JSON number;
inside a longer string it becomes text.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

_PLACEHOLDER: Final = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def names_in(tree: Any) -> frozenset[str]:
    """Return the names in braces anywhere in a tree of tables, lists and strings."""
    if isinstance(tree, str):
        return frozenset(_PLACEHOLDER.findall(tree))
    if isinstance(tree, dict):
        return names_in(list(tree.values()))
    if isinstance(tree, list | tuple):
        return frozenset().union(*(names_in(branch) for branch in tree))
    return frozenset()


def fill(tree: Any, values: dict[str, Any]) -> Any:
    """Return the tree with placeholders replaced; KeyError if one has no value."""
    if isinstance(tree, dict):
        return {key: fill(branch, values) for key, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return [fill(branch, values) for branch in tree]
    if not isinstance(tree, str):
        return tree
    match = _PLACEHOLDER.fullmatch(tree)
    if match:
        return values[match.group(1)]
    return _PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), tree)


def fill_path(path: str, values: dict[str, Any]) -> str:
    """Fill the placeholders of a URL path; values cannot add segments or a query."""
    return _PLACEHOLDER.sub(
        lambda match: quote(str(values[match.group(1)]), safe="", errors="replace"), path
    )
