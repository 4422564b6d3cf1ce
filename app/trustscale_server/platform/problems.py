"""Errors as RFC 9457 problem documents, for HTTP and for failed jobs.

Only this module knows the status code of an error.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.platform import errors

PROBLEM_TYPE = "application/problem+json"


class Problem(BaseModel):
    """A problem document (RFC 9457); it may have `items`, `differences`, `fields` and others."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra={"format": "uri-reference"})
    title: str
    status: int
    detail: str


class ProblemType(NamedTuple):
    """Status code, title and page of a kind of problem."""

    status: int
    title: str
    explanation: str


PROBLEMS: dict[str, ProblemType] = {
    "no-calibration": ProblemType(
        409,
        "No calibration",
        "The upscaler has no active calibration, or the first one is damaged or of another "
        "release. Without one a mask has no promise, so nothing is generated. Calibrate "
        "the upscaler, or activate an existing calibration.",
    ),
    "no-promise": ProblemType(
        409,
        "No promise",
        "It is known before the call that nothing would be promised of this upload, and a call of "
        "the upscaler has a price. So none was made. Send `without_promise=true` to make it all "
        "the same, or `mask=none` for the picture alone.",
    ),
    "calibration-mismatch": ProblemType(
        409,
        "Calibration mismatch",
        "The active calibration was made under another pipeline than that of this request. The "
        "member `differences` names each field with its calibrated and its live "
        "value. Restore the calibrated upscaler, or calibrate again.",
    ),
    "bad-image": ProblemType(
        422,
        "Bad image",
        "The image cannot be used: it is empty, damaged, incomplete or animated, has pixels "
        "without data, or has no faithful RGB form. `detail` says which.",
    ),
    "decode-limit": ProblemType(
        422,
        "Decode limit",
        "Decoding the file took more time or memory than its declared pixels justify, so it was "
        "stopped. The member `limit` says which: `seconds`, `memory`, or `scans` of a JPEG file. "
        "Files built to keep a "
        "service busy do this; for other files, save the image again with an ordinary program.",
    ),
    "image-too-large": ProblemType(
        413,
        "Image too large",
        "The upload is over a limit on bytes, pixels or sides. The members `limit` and `maximum` "
        "name it; most limits are settings of the service.",
    ),
    "unsupported-media": ProblemType(
        415,
        "Unsupported media",
        "The file is not a PNG, JPEG, WebP, AVIF, TIFF, BMP or still GIF file, whatever its name. "
        "HEIC and JPEG XL need the extra `formats`, and data of 16 bits the extra `science`.",
    ),
    "bad-alpha": ProblemType(
        422,
        "Bad alpha",
        "`alpha` is not a finite number of at least 0. It is the largest expected error that is "
        "tolerated inside the mask.",
    ),
    "bad-group": ProblemType(
        422,
        "Bad group",
        "The active calibration does not have the `group` of this request, so no curve covers "
        "it. The member `groups` lists its groups; without `group` the curve of all its images "
        "is used.",
    ),
    "bad-request": ProblemType(
        422,
        "Bad request",
        "A field or header of the request, or its whole body, cannot be used. `detail` says why.",
    ),
    "too-slow": ProblemType(
        422,
        "Too slow",
        "The answer would take longer than a request may. The members `estimate` and `deadline` "
        "are seconds. Send `Prefer: respond-async` to make it a job, or "
        "`fit` with the number in the member `fit`. Status 504 means that the request ran out "
        "of time, and a retry would take as long.",
    ),
    "bad-pairs": ProblemType(
        422,
        "Bad pairs",
        "Some calibration pairs cannot be used. The member `items` lists each with its reason.",
    ),
    "bad-calibration": ProblemType(
        422,
        "Bad calibration",
        "A calibration file, uploaded or stored, is damaged, edited, inconsistent or of another "
        "version.",
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
        "All samples are identical although the input is not flat. There is a cache or a fixed "
        "seed between the service and the model; a mask would trust too much.",
    ),
    "overloaded": ProblemType(
        503,
        "Overloaded",
        "All slots and waiting places are taken, or the disk is full (503), or this client has "
        "used up its requests or pixels of the minute (429). Try again after the seconds in "
        "Retry-After.",
    ),
    "store-unavailable": ProblemType(
        503,
        "Store unavailable",
        "The service cannot store anything now: its database or its files are unavailable or full. "
        "No samples were made, unless the store failed meanwhile. Try again after the seconds in "
        "Retry-After.",
    ),
    "unauthorized": ProblemType(
        401,
        "Unauthorized",
        "The request has no valid key: send Authorization: Bearer KEY, or X-API-Key: KEY.",
    ),
    "forbidden": ProblemType(
        403,
        "Forbidden",
        "The key is valid but does not allow this, or a page of another site has sent the request.",
    ),
    "not-found": ProblemType(
        404, "Not found", "The resource never existed, was deleted, or has expired."
    ),
    "method-not-allowed": ProblemType(
        405,
        "Method not allowed",
        "This path does not accept this method; `Allow` lists the accepted ones.",
    ),
    "conflict": ProblemType(
        409,
        "Conflict",
        "The request contradicts the present state (409), or what it would replace has changed "
        "since it was read, so that `If-Match` or `If-None-Match` does not hold (412).",
    ),
    "no-direct-uploads": ProblemType(
        409,
        "No direct uploads",
        "This service has no object store that clients may use, so there is no link for an "
        "upload. Send the file itself with the request.",
    ),
    "internal-error": ProblemType(
        500,
        "Internal error",
        "The service made an error. The request id in X-Request-ID finds it in the log.",
    ),
}

# All other slugs are the names of their errors in words.
_SLUGS: Final = {
    errors.BadInput: "bad-request",
    errors.TimedOut: "too-slow",
    errors.UpscalerError: "upscaler-failed",
}

# Errors whose status is not that of their problem type.
_STATUSES: list[tuple[type[errors.TrustscaleError], int]] = [
    (errors.RateLimited, 429),
    (errors.Superseded, 412),
    (errors.TimedOut, 504),
]


def problem_of(error: Exception) -> dict[str, Any]:
    """Return the problem document of any error; unexpected ones reveal nothing."""
    if not isinstance(error, errors.TrustscaleError):
        return problem("internal-error", "An unexpected error occurred; it has been logged.")
    document = problem(_slug(type(error)), error.detail, **error.members)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
    return document if status is None else {**document, "status": status}


def _slug(error: type[Exception]) -> str:
    """The problem of an error's class, or else of the nearest class above it."""
    for ancestor in error.__mro__:
        words = re.findall("[A-Z][a-z]*", ancestor.__name__)
        if (slug := _SLUGS.get(ancestor, "-".join(words).lower())) in PROBLEMS:
            return slug
    return "internal-error"


def problem(slug: str, detail: str, **members: Any) -> dict[str, Any]:
    """Return a problem document; extra members cannot replace the standard ones."""
    kind = PROBLEMS[slug]
    return {
        **members,
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }


def body_too_large() -> dict[str, Any]:
    """Return the problem of a body over the limit."""
    return problem("image-too-large", "This file is larger than the service accepts.")
