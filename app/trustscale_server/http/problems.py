"""Errors as problem documents (RFC 9457), and a page for each of their types."""

from __future__ import annotations

import errno
import html
import math
import re
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from trustscale_server.platform import errors
from trustscale_server.platform.config_errors import in_one_sentence, reason
from trustscale_server.platform.problems import (
    PROBLEM_TYPE,
    PROBLEMS,
    body_too_large,
    problem,
    problem_of,
)
from trustscale_server.stores.spool import is_of_temporary, no_temporary

SCOPE_KEY = "trustscale.problem"
"""The key in a request's ASGI scope for the type of problem that answers it."""

log = structlog.get_logger(__name__)

# 400 is the framework's status for an unreadable body, which here is 422 like all bad requests.
_SLUG_OF_STATUS = {
    400: "bad-request",
    404: "not-found",
    413: "image-too-large",
}


def problem_response(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return a problem document as a response."""
    return JSONResponse(
        document, status_code=document["status"], headers=headers, media_type=PROBLEM_TYPE
    )


class ClientDisconnected(Exception):
    """The client hung up, and its work was cancelled."""


def add_problem_handlers(app: FastAPI) -> None:
    """Answer errors of `app` with problem documents, and serve a page for each type."""
    app.add_exception_handler(errors.TrustscaleError, _expected_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    for hangup in (ClientDisconnected, ClientDisconnect):
        app.add_exception_handler(hangup, answer_nobody)
    app.add_exception_handler(OSError, _system_error)
    app.add_exception_handler(Exception, _unexpected_error)
    app.add_api_route(
        "/problems/{slug}", _problem_page, include_in_schema=False, response_class=HTMLResponse
    )


def _counted(
    request: Request, document: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    """A problem document as a response; the outermost middleware counts its type."""
    request.scope[SCOPE_KEY] = document["type"].removeprefix("/problems/")
    return problem_response(document, headers)


def _expected_error(request: Request, error: Exception) -> Response:
    headers = {}
    if isinstance(error, errors.TransientError) and not isinstance(error, errors.TimedOut):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="trustscale"'
    return _counted(request, problem_of(error), headers)


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    mistakes = error.errors()
    items = [
        {"field": ".".join(map(str, item["loc"][1:])), "reason": reason(item)} for item in mistakes
    ]
    detail = in_one_sentence((item["field"], item["reason"]) for item in items)
    is_alpha = any(
        item["loc"] in {("body", "alpha"), ("query", "alpha")} and item["type"] != "extra_forbidden"
        for item in mistakes
    )
    slug = "bad-alpha" if is_alpha else "bad-request"
    return _counted(request, problem(slug, detail, fields=items))


async def answer_nobody(_request: Request, _gone: Exception) -> Response:
    """Return the response that is counted for a client that hung up."""
    return Response(status_code=499)  # it is logged and counted, not sent


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    if isinstance(error.__cause__, ClientDisconnect):  # while it sent a form
        return await answer_nobody(request, error)
    if isinstance(error.__cause__, OSError):  # while its form was stored
        return _system_error(request, error.__cause__)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _method_not_allowed(request, error)
    slug = _SLUG_OF_STATUS.get(error.status_code)
    if slug is None:
        document = {
            "type": "about:blank",
            "title": HTTPStatus(error.status_code).phrase,
            "status": error.status_code,
            "detail": str(error.detail),
        }
    elif error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        document = body_too_large()
    else:
        document = problem(slug, f"{str(error.detail).rstrip('.')}.")
    return _counted(request, document, dict(error.headers or {}))


def _method_not_allowed(request: Request, error: HTTPException) -> Response:
    allowed = _allowed_methods(request)
    detail = f"{request.url.path[:80]} does not take {request.method[:20]}; it takes {allowed}."
    headers = {**dict(error.headers or {}), "Allow": allowed}
    return _counted(request, problem("method-not-allowed", detail), headers)


_METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")


def _allowed_methods(request: Request) -> str:
    """The methods of all routes of a path; the framework names those of the first."""

    def is_taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(filter(is_taken, _METHODS))


def _system_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101 - registered for this class
    # Anything but a full disk or too many open files is a fault of the program.
    if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}:
        if is_of_temporary(error):
            return _expected_error(request, no_temporary(error))
        raise error
    return _expected_error(
        request, errors.Overloaded(f"The system has no resources left: {error.strerror}.")
    )


def _unexpected_error(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error)
    return _counted(request, problem_of(error))


async def _problem_page(slug: str) -> HTMLResponse:
    kind = PROBLEMS.get(slug)
    if kind is None:
        raise errors.NotFound(f"There is no problem type {slug[:40]!r}.")
    title = html.escape(kind.title)
    text = re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(kind.explanation))
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p>Status {kind.status}, type <code>/problems/{slug}</code></p>"
        f"<p>{text}</p></html>"
    )


_Responses: TypeAlias = dict[int | str, dict[str, Any]]


PICTURE_PROBLEMS: Final = (
    "bad-image", "decode-limit", "image-too-large", "unsupported-media", "bad-request",
)  # fmt: skip
"""The problems of an operation that takes a picture."""


def limited_responses(*slugs: str) -> _Responses:
    """Return `problem_responses` and those of an operation with rate limits."""
    return {
        **problem_responses(*slugs, "unauthorized", "overloaded", "store-unavailable"),
        **problem_responses("overloaded", status=429),
    }


def problem_responses(*slugs: str, status: int | None = None) -> _Responses:
    """Return the `responses` of a path operation for OpenAPI, with one example per type.

    status: takes the place of the types' own.
    """
    responses: _Responses = {}
    schema = {"$ref": "#/components/schemas/Problem"}
    for slug in slugs:
        kind = PROBLEMS[slug]
        response = responses.setdefault(
            status or kind.status,
            {
                "description": kind.title,
                "content": {PROBLEM_TYPE: {"schema": schema, "examples": {}}},
            },
        )
        response["content"][PROBLEM_TYPE]["examples"][slug] = {
            "value": {**problem(slug, kind.explanation), "status": status or kind.status}
        }
    return responses
