"""`/docs`: the OpenAPI document in Swagger UI, whose files come from this process."""

from __future__ import annotations

import html
import json

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

POLICY = "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
"""What the page needs beside what every answer has: its own files, and icons in its style sheet."""

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


def add_reference(app: FastAPI) -> None:
    """Serve the page; keys that are typed into it stay in the memory of the browser."""
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    def page(request: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE.format(title=html.escape(app.title), root=_root(request)))

    @app.get("/docs/start.js", include_in_schema=False)
    def start(request: Request) -> Response:
        options = {"url": f"{_root(request)}{app.openapi_url}", "dom_id": "#swagger-ui"}
        call = f"SwaggerUIBundle({json.dumps({**options, 'filter': True})});"
        return Response(call, media_type="text/javascript")


def _root(request: Request) -> str:
    return html.escape(request.scope.get("root_path", "").rstrip("/"))
