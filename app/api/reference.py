"""`/docs`: the OpenAPI document as a page to read. No script, and nothing from elsewhere.

The usual viewers are programs of a megabyte from a CDN, which a strict policy forbids and a network
without a way out does not have. What they add, trying a call, `curl` and our own pages do.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response

STYLE_PATH = "/docs/style.css"

_METHODS = ("get", "post", "put", "delete")

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
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append((method.upper(), path, item[method]))
    schemas = document.get("components", {}).get("schemas", {})
    body = "".join(
        f"<h2>{_text(tag)}</h2>" + "".join(_operation(*found, schemas) for found in operations)
        for tag, operations in by_tag.items()
    )
    contents = "".join(
        f'<li><a href="#{_anchor(method, path)}"><code>{method} {_text(path)}</code></a></li>'
        for operations in by_tag.values()
        for method, path, _ in operations
    )
    shown = "".join(
        f'<h3 id="schema-{_text(name)}">{_text(name)}</h3>'
        f"<p>{_text(schema.get('description', ''))}</p>{_fields(schema, schemas)}"
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


def _operation(
    method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> str:
    rows = [
        (p["name"], _kind(p.get("schema", {})), p["in"], p.get("required", False), p)
        for p in operation.get("parameters", [])
    ]
    text = operation.get("description") or operation.get("summary", "")
    return (
        f'<section id="{_anchor(method, path)}"><h3>{method} {_text(path)}</h3>'
        f"<p>{_text(text)}</p>"
        + ("<h4>Parameters</h4>" + _table(rows) if rows else "")
        + "".join(_body(operation.get("requestBody", {}), schemas))
        + "<h4>Answers</h4><table>"
        + "".join(_answers(operation.get("responses", {})))
        + "</table></section>"
    )


def _body(body: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    for media_type, content in body.get("content", {}).items():
        schema = content.get("schema", {})
        fields = schemas.get(_reference(schema), schema)
        yield f"<h4>Body, <code>{_text(media_type)}</code></h4>{_fields(fields, schemas)}"


def _answers(responses: Mapping[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        content = response.get("content", {})
        problems = [name for media in content.values() for name in media.get("examples", {})]
        named = ", ".join(f'<a href="/problems/{_text(p)}">{_text(p)}</a>' for p in problems)
        kinds = ", ".join(
            f"<code>{_text(media_type)}</code> {_kind(media.get('schema', {}))}"
            for media_type, media in content.items()
        )
        told = named or _text(response.get("description", ""))
        yield f"<tr><td>{_text(status)}</td><td>{told}</td><td>{kinds}</td></tr>"


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        schema = schemas[_reference(schema)]
    required = set(schema.get("required", []))
    rows = [
        (name, _kind(field), "", name in required, field)
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(rows) if rows else f"<p>{_kind(schema)}</p>"


def _table(rows: list[tuple[str, str, str, bool, Mapping[str, Any]]]) -> str:
    return (
        "<table>"
        + "".join(
            f"<tr><td><code>{_text(name)}</code></td><td>{kind}</td>"
            f"<td>{_text(place)}{' required' if required else ''}</td>"
            f"<td>{_text(about.get('description', ''))}{_default(about)}</td></tr>"
            for name, kind, place, required, about in rows
        )
        + "</table>"
    )


def _default(about: Mapping[str, Any]) -> str:
    value = about.get("default", about.get("schema", {}).get("default"))
    return "" if value is None else f" Default: <code>{_text(value)}</code>."


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


def _anchor(method: str, path: str) -> str:
    return html.escape(f"{method}-{path.strip('/').replace('/', '-')}", quote=True)


def _text(value: object) -> str:
    return html.escape(str(value))
