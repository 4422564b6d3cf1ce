"""Why a call failed, in finer classes than in `platform/errors.py`, and what to do about it."""

from __future__ import annotations

from typing import Any

from trustscale_server.platform.errors import (
    ProtocolError,
    TimedOut,
    UpscalerError,
    UpscalerFailed,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.pointers import outline


class _Waiting(UpscalerUnavailable):
    """`wait_s`: seconds that the server asked us to wait; None: it did not say."""

    def __init__(self, detail: str, *, wait_s: float | None = None, **members: Any) -> None:
        super().__init__(detail, retry_after=5.0 if wait_s is None else wait_s, **members)
        self.wait_s = wait_s


class Busy(_Waiting):
    """The server has no free slot (409, 503, 429 by product)."""


class TooManyCalls(_Waiting):
    """The account's rate limit is reached."""


class AnswerLost(UpscalerUnavailable):
    """The request was sent and not answered; its work may be paid for."""


class QuotaSpent(UpscalerUnavailable):
    """The provider has no credit left, or the configured spend limit is reached."""


class BadCredentials(UpscalerUnavailable):
    """The server answered 401 or 403: the operator must correct the token."""


class Misconfigured(UpscalerUnavailable):
    """The server answered 404: the operator must correct the address or the model."""


class BreakerOpen(UpscalerUnavailable):
    """Too many calls failed in a row, so this call was not made."""


class GenerationFailed(UpscalerFailed):
    """The model reported a failure, often inside HTTP 200."""


class Filtered(UpscalerFailed):
    """A content filter withheld the sample."""


class OutOfBounds(ProtocolError):
    """The answer is larger than an answer about this input can be; a retry would not help."""


class NoImage(ProtocolError):
    """The answer has no image where the settings say it is.

    reason: the server's explanation; without one, only other settings would help. setting: where
    another place can be set.
    """

    def __init__(
        self, name: str, where: str, document: Any, reason: str = "", *, setting: str = ""
    ) -> None:
        because = f": {reason}" if reason else ""
        holds = "is no JSON" if document is None else f"holds {outline(document)}"
        advice = f": set {setting}" if setting else ""
        super().__init__(
            f"{name!r} sent no image at {where!r}{because}; its answer {holds}{advice}."
        )
        self.document = document
        self.reason = reason


class WrongSample(ProtocolError):
    """The answer is an image, but not a sample of this input."""


class WrongSize(WrongSample):
    """The sample is not k times as large as the input; `size` is its (width, height)."""

    def __init__(self, detail: str, size: tuple[int, int]) -> None:
        super().__init__(detail)
        self.size = size


_FINAL = (UpscalerRejected, Filtered, WrongSample, OutOfBounds)
_FOR_THE_OPERATOR = (BadCredentials, Misconfigured, QuotaSpent)

_REASONS: tuple[tuple[type[UpscalerError], str], ...] = (
    (Busy, "busy"),
    (TooManyCalls, "rate-limited"),
    (QuotaSpent, "quota"),
    (BadCredentials, "credentials"),
    (Misconfigured, "configuration"),
    (BreakerOpen, "breaker-open"),
    (TimedOut, "timeout"),
    (UpscalerUnavailable, "unavailable"),
    (Filtered, "filtered"),
    (UpscalerRejected, "rejected"),
    (WrongSample, "wrong-sample"),
    (ProtocolError, "protocol"),
    (UpscalerFailed, "failed"),
)


def retriable(error: BaseException) -> bool:
    """Return whether the same call with the same seed may succeed a moment later."""
    return (
        isinstance(error, UpscalerUnavailable | UpscalerFailed)
        and not isinstance(error, (*_FINAL, *_FOR_THE_OPERATOR, BreakerOpen))
        and not _is_elsewhere(error)
    )


def needs_operator(error: BaseException) -> bool:
    """Return whether waiting is useless: the operator must correct a setting, or pay."""
    return isinstance(error, _FOR_THE_OPERATOR)


def replaceable(error: BaseException) -> bool:
    """Return whether another seed may succeed where this one finally failed."""
    return (
        isinstance(error, UpscalerFailed)
        and not isinstance(error, UpscalerRejected | WrongSample | OutOfBounds)
        and not _is_elsewhere(error)
    )


def _is_elsewhere(error: BaseException) -> bool:
    """Whether a whole answer came, and the settings look for its image in the wrong place."""
    return isinstance(error, NoImage) and error.document is not None and not error.reason


def asked_wait(error: BaseException) -> float | None:
    """Return the seconds that the server asked us to wait, or None if it did not say."""
    return error.wait_s if isinstance(error, _Waiting) else None


def metrics_label(error: BaseException) -> str:
    """Return the label of the error in metrics."""
    return next((label for kind, label in _REASONS if isinstance(error, kind)), "other")
