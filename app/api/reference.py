"""`/docs`: the OpenAPI document as a page to read. No script, and nothing from elsewhere.

The usual viewers are programs of a megabyte from a CDN, which a strict policy forbids and a network
without a way out does not have. What they add, trying a call, `curl` and our own pages do.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response

STYLE_PATH = "/docs/style.css"

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#dcdad3, #333a42);
  --soft: light-dark(#51575e, #b3b9c0); --link: light-dark(#0b6670, #62c6cf); }
body { font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; background: light-dark(#f6f5f2, #14171b); color: light-dark(#1c2126, #eceae5); }
a { color: var(--link); }
h2 { margin-top: 3rem; text-transform: capitalize; border-bottom: 1px solid var(--line); }
h3 { margin: 2.2rem 0 .3rem; font: 600 1rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
h4 { margin: 1rem 0 .2rem; font-size: .9rem; color: var(--soft); }
code { font: .9em ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td:first-child, td:nth-child(3) { overflow-wrap: normal; }
nav ul { columns: 2 20rem; padding-left: 1.2rem; }
"""


def add_reference(app: FastAPI) -> None:
    """Serve the page at `/docs`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    def page(request: Request) -> HTMLResponse:
        return HTMLResponse(render(request.app.openapi()))

    @router.get(STYLE_PATH)
    def style() -> Response:
        return Response(_STYLE, media_type="text/css")

    app.include_router(router)


def render(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as one HTML page."""
    info = document["info"]
    schemas = document.get("components", {}).get("schemas", {})
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    contents = "".join(
        f'<li><a href="#{_anchor(name)}"><code>{_text(name)}</code></a></li>'
        for name, _ in operations
    )
    body = ""
    for tag in dict.fromkeys(operation["tags"][0] for _, operation in operations):
        body += f"<h2>{_text(tag)}</h2>" + "".join(
            _operation(name, operation, schemas)
            for name, operation in operations
            if operation["tags"][0] == tag
        )
    shown = "".join(
        f'<h3 id="schema-{_text(name)}">{_text(name)}</h3>'
        f"<p>{_text(schema.get('description', ''))}</p>"
        f"{_table(_fields(schema, schemas)) or f'<p>{_kind(schema)}</p>'}"
        for name, schema in schemas.items()
        if not name.startswith("Body_")  # shown where they are sent
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>HTTP API · {_text(info['title'])}</title>"
        f'<link rel="stylesheet" href="{STYLE_PATH}"/></head><body>'
        f"<h1>{_text(info['title'])} {_text(info['version'])}: HTTP API</h1>"
        f"<p>{_text(info.get('summary', ''))}</p>"
        '<p>For programs: <a href="/openapi.json"><code>/openapi.json</code></a>. Keys are sent as '
        "<code>Authorization: Bearer KEY</code> or <code>X-API-Key: KEY</code>.</p>"
        f'<nav aria-label="Operations"><ul>{contents}</ul></nav>'
        f"<main>{body}<h2>Documents</h2>{shown}</main></body></html>"
    )


def _operation(name: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    asked = "".join(
        _row(one["name"], one["schema"], one["in"], one, required=one.get("required", False))
        for one in operation.get("parameters", [])
    )
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        kind = {"type": "form"} if "form" in media_type else content["schema"]
        asked += _row(media_type, kind, "body", {}, required=False)
        asked += _fields(content["schema"], schemas)
    return (
        f'<section id="{_anchor(name)}"><h3>{_text(name)}</h3>'
        f"<p>{_text(operation.get('description', ''))}</p>"
        f"{'<h4>Request</h4>' if asked else ''}{_table(asked)}<h4>Answers</h4>"
        + _table("".join(map(_answer, operation["responses"], operation["responses"].values())))
        + "</section>"
    )


def _answer(status: str, response: Mapping[str, Any]) -> str:
    content = response.get("content", {})
    problems = [slug for media in content.values() for slug in media.get("examples", {})]
    named = ", ".join(f'<a href="/problems/{_text(p)}">{_text(p)}</a>' for p in problems)
    kinds = ", ".join(
        f"<code>{_text(media_type)}</code> {_kind(media.get('schema', {}))}"
        for media_type, media in content.items()
    )
    told = named or _text(response.get("description", ""))
    return f"<tr><td>{_text(status)}</td><td>{told}</td><td>{kinds}</td></tr>"


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """A row for each field of a document or form."""
    schema = schemas.get(_reference(schema), schema)
    required = schema.get("required", [])
    return "".join(
        _row(name, field, "", field, required=name in required)
        for name, field in schema.get("properties", {}).items()
    )


def _row(
    name: str, schema: Mapping[str, Any], place: str, about: Mapping[str, Any], *, required: bool
) -> str:
    default = about.get("default", schema.get("default"))
    told = _text(about.get("description", ""))
    if default is not None and default != "":
        told += f" Default: <code>{_text(default)}</code>."
    return (
        f"<tr><td><code>{_text(name)}</code></td><td>{_kind(schema)}</td>"
        f"<td>{_text(place)}{' required' if required else ''}</td><td>{told}</td></tr>"
    )


def _table(rows: str) -> str:
    return f"<table>{rows}</table>" if rows else ""


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of a value in a few words, with links to documents."""
    if name := _reference(schema):
        return f'<a href="#schema-{_text(name)}">{_text(name)}</a>'
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            kinds = dict.fromkeys(_kind(part) for part in schema[key])
            return " or ".join(kind for kind in kinds if kind != "null")
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{_text(value)}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("format") == "binary" or "contentMediaType" in schema:
        return "file"
    return _text(schema.get("type", "any"))


def _reference(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _anchor(name: str) -> str:
    return _text(name.replace(" /", "-").replace("/", "-"))


def _text(value: object) -> str:
    return html.escape(str(value))
