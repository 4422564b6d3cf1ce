"""Errors as RFC 9457 problem documents, and a page for each type.

This is the only module that knows the status code of an error.
"""

from __future__ import annotations

import html
import math
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from app import errors

MEDIA_TYPE = "application/problem+json"

SCOPE_KEY = "trustscale.problem"
"""Where the ASGI scope of a request names the type of the problem that answers it."""

log = structlog.get_logger(__name__)


class ProblemType(NamedTuple):
    """A kind of problem: status code, title and what its page says."""

    status: int
    title: str
    explanation: str


PROBLEMS: dict[str, ProblemType] = {
    "no-calibration": ProblemType(
        409,
        "No calibration",
        "The upscaler has no active calibration. Without one no mask has a foundation, so nothing "
        "is generated. Calibrate the upscaler, or activate a calibration that exists.",
    ),
    "calibration-mismatch": ProblemType(
        409,
        "Calibration mismatch",
        "The active calibration was made under another pipeline than the one that would serve "
        "this request. The member `differences` names each field with its calibrated and its live "
        "value. Restore the calibrated upscaler, or calibrate again.",
    ),
    "bad-image": ProblemType(
        422,
        "Bad image",
        "The file is an image of a supported format, but it is damaged, truncated, animated, or "
        "has transparent pixels. `detail` says which.",
    ),
    "image-too-large": ProblemType(
        413,
        "Image too large",
        "The upload is over a limit on bytes, pixels or sides. The members `limit` and `maximum` "
        "name it; the limits are settings of the service.",
    ),
    "unsupported-media": ProblemType(
        415, "Unsupported media", "Images must be PNG, JPEG or WebP files, whatever their name."
    ),
    "bad-alpha": ProblemType(
        422,
        "Bad alpha",
        "alpha is the largest expected error that is tolerated inside the mask: a finite number of "
        "at least 0.",
    ),
    "bad-group": ProblemType(
        422,
        "Bad group",
        "`group` names a group of images that the active calibration does not have, so no curve "
        "speaks about it. The member `groups` lists those it has; without `group` the curve of all "
        "its images is used.",
    ),
    "bad-request": ProblemType(
        422,
        "Bad request",
        "A field or header of the request, or its whole body, cannot be used. `detail` says why.",
    ),
    "bad-pairs": ProblemType(
        422,
        "Bad pairs",
        "Some calibration pairs cannot be used. The member `items` lists each with its reason.",
    ),
    "bad-calibration": ProblemType(
        422, "Bad calibration", "The uploaded calibration file is damaged, edited or inconsistent."
    ),
    "upscaler-unavailable": ProblemType(
        503,
        "Upscaler unavailable",
        "The upscaler cannot be reached, is busy, or did not answer in time. Try again after the "
        "seconds in Retry-After.",
    ),
    "upscaler-failed": ProblemType(
        502,
        "Upscaler failed",
        "The upscaler answered, but not with the samples that the mask needs.",
    ),
    "degenerate-samples": ProblemType(
        502,
        "Degenerate samples",
        "All samples are identical although the input is not flat. A cache or a fixed seed stands "
        "between the service and the model; a mask would be confident without reason.",
    ),
    "overloaded": ProblemType(
        503,
        "Overloaded",
        "All slots and waiting places are taken (503), or this client has used up its requests or "
        "pixels of the minute (429). Try again after the seconds in Retry-After.",
    ),
    "unauthorized": ProblemType(
        401, "Unauthorized", "A valid key is needed: Authorization: Bearer KEY, or X-API-Key: KEY."
    ),
    "forbidden": ProblemType(403, "Forbidden", "The key is valid, but not for this."),
    "not-found": ProblemType(
        404, "Not found", "Nothing is here: it never existed, was deleted, or has expired."
    ),
    "method-not-allowed": ProblemType(
        405,
        "Method not allowed",
        "This path does not take this method; `Allow` names those it does.",
    ),
    "conflict": ProblemType(
        409,
        "Conflict",
        "The request contradicts the present state (409), or what it would replace has changed "
        "since it was read, so that `If-Match` or `If-None-Match` does not hold (412).",
    ),
    "internal-error": ProblemType(
        500,
        "Internal error",
        "A fault of the service. The request id in X-Request-ID finds it in the log.",
    ),
}

# The most specific class stands first.
_SLUGS: list[tuple[type[errors.TrustscaleError], str]] = [
    (errors.ImageTooLarge, "image-too-large"),
    (errors.UnsupportedMedia, "unsupported-media"),
    (errors.BadImage, "bad-image"),
    (errors.BadAlpha, "bad-alpha"),
    (errors.BadGroup, "bad-group"),
    (errors.BadPairs, "bad-pairs"),
    (errors.BadCalibration, "bad-calibration"),
    (errors.BadInput, "bad-request"),
    (errors.NoCalibration, "no-calibration"),
    (errors.CalibrationMismatch, "calibration-mismatch"),
    (errors.DegenerateSamples, "degenerate-samples"),
    (errors.UpscalerUnavailable, "upscaler-unavailable"),
    (errors.UpscalerError, "upscaler-failed"),
    (errors.Overloaded, "overloaded"),
    (errors.Unauthorized, "unauthorized"),
    (errors.Forbidden, "forbidden"),
    (errors.NotFound, "not-found"),
    (errors.Conflict, "conflict"),
]

# Where the status depends on more than the type.
_STATUSES: list[tuple[type[errors.TrustscaleError], int]] = [
    (errors.RateLimited, 429),
    (errors.Superseded, 412),
]

# 400 is how the framework calls a body that it cannot read; here that is 422, as all bad requests.
_BY_STATUS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "image-too-large",
}


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem document of any error; unexpected ones say nothing about their inside."""
    if not isinstance(error, errors.TrustscaleError):
        return problem("internal-error", "An unexpected error occurred; it has been logged.")
    slug = next((slug for kind, slug in _SLUGS if isinstance(error, kind)), "internal-error")
    document = problem(slug, error.detail, **error.members)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
    return document if status is None else {**document, "status": status}


def problem(slug: str, detail: str, **members: Any) -> dict[str, Any]:
    """A problem document; extra members cannot shadow the standard ones."""
    kind = PROBLEMS[slug]
    return {
        **members,
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }


def problem_response(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """The response of a problem document."""
    return JSONResponse(
        document, status_code=document["status"], headers=headers, media_type=MEDIA_TYPE
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document, and serve the pages of the types."""
    app.add_exception_handler(errors.TrustscaleError, _expected)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    app.add_api_route(
        "/problems/{slug}", _page, include_in_schema=False, response_class=HTMLResponse
    )


def _counted(
    request: Request, document: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    """The response of a problem document, whose type the outermost middleware counts."""
    request.scope[SCOPE_KEY] = document["type"].removeprefix("/problems/")
    return problem_response(document, headers)


def _expected(request: Request, error: Exception) -> Response:
    headers = {}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="trustscale"'
    return _counted(request, problem_of(error), headers)


def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    items = [
        {"field": ".".join(map(str, item["loc"][1:])), "reason": item["msg"]}
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['field']}: {item['reason']}" for item in items)
    return _counted(request, problem("bad-request", f"{detail}.", fields=items))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    slug = _BY_STATUS.get(error.status_code)
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


def body_too_large() -> dict[str, Any]:
    """The problem of a body over the limit, which is not read to its end."""
    return problem("image-too-large", "The body of the request is larger than the service accepts.")


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error)
    return _counted(request, problem_of(error))


async def _page(slug: str) -> HTMLResponse:
    kind = PROBLEMS.get(slug)
    if kind is None:
        raise errors.NotFound(f"There is no problem type {slug[:40]!r}.")
    title, text = html.escape(kind.title), html.escape(kind.explanation)
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p>Status {kind.status}, type <code>/problems/{slug}</code></p>"
        f"<p>{text}</p></html>"
    )


def problem_responses(*slugs: str, status: int | None = None) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a path operation for OpenAPI, with one example per type.

    `status` replaces the usual status of the types.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for slug in slugs:
        kind = PROBLEMS[slug]
        response = responses.setdefault(
            status or kind.status,
            {
                "description": kind.title,
                "content": {MEDIA_TYPE: {"schema": _SCHEMA, "examples": {}}},
            },
        )
        response["content"][MEDIA_TYPE]["examples"][slug] = {
            "value": {**problem(slug, kind.explanation), "status": status or kind.status}
        }
    return responses


_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem document",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
