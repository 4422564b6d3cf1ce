"""Why a remote call failed, in finer classes than `app.errors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.errors import UpscalerError, UpscalerFailed, UpscalerRejected, UpscalerUnavailable
from app.upscalers.base import RGB


class _Waiting(UpscalerUnavailable):
    """`asked`: seconds that the server asked us to wait; None: it did not say."""

    def __init__(self, detail: str, *, asked: float | None = None, **members: Any) -> None:
        super().__init__(detail, retry_after=5.0 if asked is None else asked, **members)
        self.asked = asked


class Busy(_Waiting):
    """The server has no free slot (409, 503, 429 by product)."""


class TooManyCalls(_Waiting):
    """The rate limit of the account."""


class AnswerLost(UpscalerUnavailable):
    """The request was sent and not answered; its work may be paid for."""


class QuotaSpent(UpscalerUnavailable):
    """No credit left at the provider, or the configured spend limit is reached."""


class BadCredentials(UpscalerUnavailable):
    """401 or 403: the operator must correct the token."""


class Misconfigured(UpscalerUnavailable):
    """404: the operator must correct the address or the model."""


class BreakerOpen(UpscalerUnavailable):
    """Too many failures in a row, so this call was not made."""


class GenerationFailed(UpscalerFailed):
    """The model reported a failure, often inside HTTP 200."""


class Filtered(UpscalerFailed):
    """A content filter withheld the sample."""


class ProtocolError(UpscalerFailed):
    """The answer does not follow the protocol."""


class NoImage(ProtocolError):
    """No image where the settings say; `document`: what came, None if it is no JSON."""

    def __init__(self, detail: str, document: Any) -> None:
        super().__init__(detail)
        self.document = document


class ForeignHost(ProtocolError):
    """The result is on a `host` that is not allowed."""

    def __init__(self, detail: str, host: str) -> None:
        super().__init__(detail)
        self.host = host


class WrongSample(ProtocolError):
    """The answer is an image, but not a sample of this input."""


class WrongSize(WrongSample):
    """Not k times the input; `size`: its (width, height)."""

    def __init__(self, detail: str, size: tuple[int, int]) -> None:
        super().__init__(detail)
        self.size = size


class SomeFailed(UpscalerFailed):
    """One call for several seeds gave only some of the samples.

    `samples` has one entry per seed, None where none came. They are paid for, so the fan-out keeps
    them and asks only for the rest. `cause` is why the rest is missing.
    """

    def __init__(self, samples: Sequence[RGB | None], cause: UpscalerError, **members: Any) -> None:
        super().__init__(cause.detail, **members)
        self.samples = list(samples)
        self.cause = cause


_FINAL = (UpscalerRejected, Filtered, WrongSample, SomeFailed)
_FOR_THE_OPERATOR = (BadCredentials, Misconfigured, QuotaSpent)

_REASONS: tuple[tuple[type[UpscalerError], str], ...] = (
    (Busy, "busy"),
    (TooManyCalls, "rate-limited"),
    (QuotaSpent, "quota"),
    (BadCredentials, "credentials"),
    (Misconfigured, "configuration"),
    (BreakerOpen, "breaker-open"),
    (UpscalerUnavailable, "unavailable"),
    (Filtered, "filtered"),
    (UpscalerRejected, "rejected"),
    (WrongSample, "wrong-sample"),
    (ProtocolError, "protocol"),
    (UpscalerFailed, "failed"),
)


def retriable(error: BaseException) -> bool:
    """Whether the same call with the same seed may succeed a moment later."""
    return isinstance(error, UpscalerUnavailable | UpscalerFailed) and not isinstance(
        error, (*_FINAL, *_FOR_THE_OPERATOR, BreakerOpen)
    )


def needs_operator(error: BaseException) -> bool:
    """Whether waiting is useless: the operator must correct a setting, or pay."""
    return isinstance(error, _FOR_THE_OPERATOR)


def replaceable(error: BaseException) -> bool:
    """Whether another seed may succeed where this one finally failed."""
    return isinstance(error, UpscalerFailed) and not isinstance(
        error, UpscalerRejected | WrongSample
    )


def asked_wait(error: BaseException) -> float | None:
    """Seconds that the server asked us to wait; None: it did not say."""
    return error.asked if isinstance(error, _Waiting) else None


def reason(error: BaseException) -> str:
    """The label of the error in metrics."""
    return next((label for kind, label in _REASONS if isinstance(error, kind)), "other")
