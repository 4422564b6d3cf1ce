"""The OpenAPI document in a form that client generators understand, and its page `/docs`."""

from __future__ import annotations

import html
import json
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles

from trustscale_server import TRUSTED
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.http.forms import FORM_TYPES
from trustscale_server.sampling.spec import MeasurementSpec

BINARY: Final = {"type": "string", "format": "binary"}

_SCHEMAS = "#/components/schemas/"

CONFIG: Final = {
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": f"{_SCHEMAS}{CalibrationConfig.__name__}"},
}
"""The schema of a form field that is a `CalibrationConfig` as JSON."""

PAGE_POLICY = "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
"""What the content security policy of `/docs` allows besides that of all answers."""

_LOCAL: Final = "http://127.0.0.1:8000"
"""Where the examples of the document are; its page puts its own address in this place."""

ABOUT: Final = f"""\
Send a picture, get it several times as large, with a mask of what is trusted:

```sh
curl -F image=@photo.jpg -F alpha=0.05 -H 'Accept: application/zip' -o result.zip \\
  {_LOCAL}/v1/upscale
```

{TRUSTED}

The zip holds the picture, `mask.png` (white is trusted), `trust.png` (the masks of every α) and
`result.json` with the promise in words (`guarantee.plain`) and `warnings`. Without `Accept` the
answer is `result.json`, which links to the files. `Prefer: respond-async` makes a job of a large
picture. Where the service has keys, send yours as `Authorization: Bearer KEY`. Errors are problems
(RFC 9457) whose `detail` says what to do.
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>HTTP API · {title}</title>
<link rel="icon" href="{root}/swagger/favicon-32x32.png">
<link rel="stylesheet" href="{root}/swagger/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="{root}/swagger/swagger-ui-bundle.js"></script>
<script src="{root}/docs/start.js"></script>
</html>
"""

# In the examples of the document, the address of the page's own service replaces `_LOCAL`.
_START = """\
SwaggerUIBundle({{
  ...{options},
  responseInterceptor(answer) {{
    const here = location.href.replace(/[/]docs([?#].*)?$/, "");
    if (answer.url.endsWith("/openapi.json")) answer.text = answer.text.replaceAll("{local}", here);
    return answer;
  }},
}});
"""


def add_docs_page(app: FastAPI) -> None:
    """Serve the document in Swagger UI, whose files come from this process."""
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    def page(request: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE.format(title=html.escape(app.title), root=_root(request)))

    @app.get("/docs/start.js", include_in_schema=False)
    def start(request: Request) -> Response:
        options = {"url": f"{_root(request)}{app.openapi_url}", "dom_id": "#swagger-ui"}
        call = _START.format(options=json.dumps({**options, "filter": True}), local=_LOCAL)
        return Response(call, media_type="text/javascript")


def _root(request: Request) -> str:
    return html.escape(request.scope.get("root_path", "").rstrip("/"))


def for_client_generators(document: dict[str, Any], *, is_open: bool) -> dict[str, Any]:
    """Change FastAPI's document into one that client generators understand, and return it.

    is_open: whether clients need no key.
    """
    schemas = document["components"]["schemas"]
    # FastAPI's schemas of these lack the fields that their documents leave out where unused.
    for model in (CalibrationConfig, MeasurementSpec):
        schema = model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        inner = schema.pop("$defs", {})
        schemas |= {
            name: component for name, component in inner.items() if _is_empty(schemas.get(name))
        }
        schemas[model.__name__] = schema
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    _without_defaults(document)
    _without_other_fields(document)
    for route, path in document["paths"].items():
        for operation in path.values():
            if is_open and "security" in operation and not route.startswith("/v1/admin/"):
                operation["security"].insert(0, {})
            first, _, rest = operation.pop("description").partition("\n\n")
            operation["summary"] = " ".join(first.split()).removesuffix(".")
            if rest:
                operation["description"] = rest
    with_files: dict[str, Any] = _with_binary(document)
    return with_files


def _without_defaults(document: dict[str, Any]) -> None:
    """Move the defaults of what is sent into its descriptions.

    Generators make fields with a default mandatory, or cannot express a default that is an object.
    """
    schemas = document["components"]["schemas"]
    unvisited = [
        operation["requestBody"]
        for path in document["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    ]
    seen = set[str]()
    while unvisited:
        match unvisited.pop():
            case {"$ref": str(reference)} as value:
                name = reference.removeprefix(_SCHEMAS)
                if name not in seen and name in schemas:
                    seen.add(name)
                    unvisited.append(schemas[name])
                unvisited += [item for key, item in value.items() if key != "$ref"]
            case dict(value):
                for field in value.get("properties", {}).values():
                    _describe_default(field)
                unvisited += value.values()
            case list(items):
                unvisited += items


def _without_other_fields(document: dict[str, Any]) -> None:
    """Say of forms that they take no field besides those named (`http/forms.py`)."""
    for path in document["paths"].values():
        for operation in path.values():
            content = operation.get("requestBody", {}).get("content", {})
            for schema in (content[kind]["schema"] for kind in FORM_TYPES if kind in content):
                name = schema.get("$ref", "").removeprefix(_SCHEMAS)
                form = document["components"]["schemas"].get(name, schema)
                form["additionalProperties"] = False


def _describe_default(field: dict[str, Any]) -> None:
    """Replace the default of a field by words in its description, unless it is null."""
    default = field.pop("default", None)
    description = field.get("description", "")
    if default is not None and "default" not in description.lower():
        text = f"Default: {json.dumps(default, ensure_ascii=False)}."
        field["description"] = f"{description} {text}".strip()


def _is_empty(schema: dict[str, Any] | None) -> bool:
    """Whether a schema is missing, or says nothing of its values."""
    return schema is None or ("properties" not in schema and "enum" not in schema)


def _with_binary(value: Any) -> Any:
    """A part of the document with files as `format: binary`, which all generators know."""
    if isinstance(value, list):
        return [_with_binary(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("contentMediaType") == "application/octet-stream":
        rest = {name: item for name, item in value.items() if name != "contentMediaType"}
        return {**rest, "format": "binary"}
    return {name: _with_binary(item) for name, item in value.items()}


def operation_id(route: APIRoute) -> str:
    """Return the name of the route's function."""
    return route.name


def file_response(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a path operation that answers with a file of one of these types."""
    content = {media_type: {"schema": BINARY} for media_type in media_types}
    return {200: {"description": "The file.", "content": content}}


def body_of(media_type: str, *, form_file: str | None = None) -> dict[str, Any]:
    """Return the `openapi_extra` of a path operation that reads a file from its body.

    form_file: the form field that may carry the file instead.
    """
    content: dict[str, Any] = {media_type: {"schema": BINARY}}
    if form_file is not None:
        fields = {"type": "object", "properties": {form_file: BINARY}, "required": [form_file]}
        content["multipart/form-data"] = {"schema": fields}
    return {"requestBody": {"required": True, "content": content}}
