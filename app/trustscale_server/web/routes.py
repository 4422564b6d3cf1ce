"""Serves the pages. They contain no secrets, so they need no key; their data come from the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache

from fastapi import APIRouter, Request
from fastapi.responses import Response

from trustscale_server.platform.errors import NotFound
from trustscale_server.web.files import MISSING, PAGES, Site, StaticFile

# Own files only: no inline code or style, nothing from elsewhere, no page that frames this one.
# Pictures of results arrive by fetch, since their addresses may need a key, and are shown as blobs.
# Trusted types make every sink that turns text into markup or code throw.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types trustscale lit-html"
)
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_FIRST = "no-cache"


# Read and packed once, however many applications a process makes (tests make hundreds).
_site = cache(Site)


@dataclass(frozen=True, slots=True)
class Preview:
    """How programs that people send links with show one: a title, and the address of a picture."""

    title: str
    image: str | None


Previews = Callable[[Request, str], Awaitable[Preview | None]]
"""The preview of a result by its id; None if it has none."""

_RESULT = "/r/{result_id}"


async def _no_preview(_request: Request, _result: str) -> None:
    return None


def web_router(previews: Previews = _no_preview, prefix: str = "") -> APIRouter:
    """Make the router of all pages and static files; prefix: the path below which they are."""
    site = _site(prefix)
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    _add_pages(router, site, previews)

    async def static(digest: str, path: str, request: Request) -> Response:
        # Pages that were opened before an upgrade ask under another release's digest: they get the
        # file, too, but must not keep it.
        file = site.static.get(path)
        if file is None:
            raise NotFound(f"No file {path[:80]!r}.")
        answer = _answer(request, file, _FOR_EVER if digest == site.digest else _ASK_FIRST)
        if not path.endswith("worker.js"):  # browsers ignore the policy of any other file
            del answer.headers["Content-Security-Policy"]
        return answer

    router.add_api_route("/static/{digest}/{path:path}", static, methods=["GET", "HEAD"])
    router.add_api_route("/favicon.ico", _serve(site.static["img/icon.svg"]), methods=["GET"])
    missing_page = site.pages[MISSING.name]

    async def missing(path: str, request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            raise NotFound(f"There is nothing at /{path[:80]}.")
        return _answer(request, missing_page, _ASK_FIRST, status=404)

    # After all other routes, and for one name only: deeper paths are the API's, which answers in
    # JSON.
    router.add_api_route("/{path}", missing, methods=["GET", "HEAD"])
    return router


def _add_pages(router: APIRouter, site: Site, previews: Previews) -> None:
    for page in PAGES:
        for path in page.paths:
            if path != _RESULT:
                router.add_api_route(path, _serve(site.pages[page.name]), methods=["GET", "HEAD"])

    async def result_page(result_id: str, request: Request) -> Response:
        file = site.pages["upscale"]
        if (preview := await previews(request, result_id)) is not None:
            file = site.previewed(file, preview.title, preview.image)
        return _answer(request, file, _ASK_FIRST)

    router.add_api_route(_RESULT, result_page, methods=["GET", "HEAD"])


def _serve(file: StaticFile) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return _answer(request, file, _ASK_FIRST)

    return page


def _answer(request: Request, file: StaticFile, cache: str, *, status: int = 200) -> Response:
    """The file, packed if it can be, or 304 for a browser that has it."""
    headers = {
        "Cache-Control": cache,
        "Content-Security-Policy": _POLICY,
        "Vary": "Accept-Encoding",
    }
    if file.packed and "gzip" in request.headers.get("accept-encoding", ""):
        file = file.packed
        headers["Content-Encoding"] = "gzip"
    headers["ETag"] = file.etag
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.data, status, media_type=file.media_type, headers=headers)
