"""Errors of settings, forms and options, with the names that were probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError


def mistakes(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return all mistakes by field, with the name that a misspelt one probably means.

    model: what was validated.
    """
    known = field_names(model) if model is not None else ()
    return in_one_sentence(
        (".".join(map(str, item["loc"])) or "all", reason(item, known))
        for item in error.errors(include_input=False, include_url=False)
    )


def in_one_sentence(items: Iterable[tuple[str, str]]) -> str:
    """Return fields and their mistakes as one sentence."""
    text = "; ".join(f"{field}: {reason}" for field, reason in items)
    return text if text.endswith("?") else f"{text}."


def reason(item: Mapping[str, Any], known: Iterable[str] = ()) -> str:
    """Describe the mistake in one field without the parser's jargon.

    item: an error as pydantic lists it. known: names that may have been meant.
    """
    match item["type"]:
        case "missing":
            return "this is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            name = str(item["loc"][-1])
            return f"there is no such name{did_you_mean(name, known)}"
        case "union_tag_invalid":
            expected = item["ctx"]["expected_tags"].replace("'", "").split(", ")
            tag = str(item["ctx"]["tag"])
            suggestion = did_you_mean(tag, expected) or f"; there are {', '.join(expected)}"
            return f"there is no {item['ctx']['discriminator'].strip(chr(39))} {tag!r}{suggestion}"
        case _:
            message = (
                str(item["msg"]).removeprefix("Value error, ").partition(", unable to parse")[0]
            )
            message = message.replace("Input should be a valid tuple", "this must be a list", 1)
            return message.replace("Input should be", "this must be", 1)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name; empty if none is similar."""
    close = difflib.get_close_matches(name[:80].lower(), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def field_names(model: type[BaseModel]) -> set[str]:
    """Return the names of all fields of a model and of its parts, as written."""
    schema = model.model_json_schema()
    schemas = [schema, *schema.get("$defs", {}).values()]
    return {name for entry in schemas for name in entry.get("properties", {})}
