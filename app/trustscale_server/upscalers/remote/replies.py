"""An answer of an upscaler: its JSON by pointer, and why a call failed.

Failures have finer classes than in `platform/errors.py`. JSON pointers are of RFC 6901, where `*`
stands for every element of an array.

Servers say "busy" with 409 (Cog), 429 (BentoML) or 503 (Triton, Gradio), and explain errors as
`error`, `detail` (text or list), `errors` or plain text, whatever the content type.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final

from jsonpointer import EndOfList, JsonPointer, JsonPointerException
from pydantic import AfterValidator, Field

from trustscale_server.platform.errors import (
    ProtocolError,
    TimedOut,
    UpscalerError,
    UpscalerFailed,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.bounded_json import MAX_VALUES, TooManyValues, parse

_MAX_WAIT_S = 3600.0
_TEXT_LIMIT = 300
_DEEPEST = 6  # levels of nesting around an explanation
_EVERY: Final = re.compile(r"/\*(?=/|$)")
_NOTHING: Final = object()
# A data URI, a link, or the first letters of PNG, JPEG, WebP, AVIF and GIF in base64.
_IMAGE: Final = re.compile(r"data:image/|https?://|iVBORw0KGgo|/9j/|UklGR|AAAA.{5}0eXBhdm|R0lGOD")
_MAX_NAMED: Final = 12
_MAX_LETTERS: Final = 100
_MAX_LOOKED_AT: Final = 10_000
_MAX_POINTER: Final = 1000
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "payment_required"})


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
    """The answer is larger than any about this input; another one would be, too."""


class NoImage(ProtocolError):
    """The answer has no image where the settings say it is.

    said: the server's explanation; without one, only other settings would help. setting: where
    another place can be set.
    """

    def __init__(
        self, who: str, where: str, document: Any, said: str = "", *, setting: str = ""
    ) -> None:
        because = f": {said}" if said else ""
        holds = "is no JSON" if document is None else f"holds {outline(document)}"
        advice = f": set {setting}" if setting else ""
        super().__init__(
            f"{who!r} sent no image at {where!r}{because}; its answer {holds}{advice}."
        )
        self.document = document
        self.said = said


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
    return isinstance(error, NoImage) and error.document is not None and not error.said


def asked_wait(error: BaseException) -> float | None:
    """Return the seconds that the server asked us to wait, or None if it did not say."""
    return error.wait_s if isinstance(error, _Waiting) else None


def metrics_label(error: BaseException) -> str:
    """Return the label of the error in metrics."""
    return next((label for kind, label in _REASONS if isinstance(error, kind)), "other")


@dataclass(frozen=True)
class Reply:
    """A whole HTTP answer, with header names in lower case.

    `redact` takes the token out of the server's text.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray
    redact: Callable[[str], str] = str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @cached_property
    def document(self) -> Any:
        """The body as JSON; None if it is no object or array, or of an error that is too long.

        Raises:
            OutOfBounds: it has more values than an answer about a picture.
        """
        if bytes(self.body[:1]) not in {b"{", b"["}:
            return None
        try:
            return parse(self.body)
        except TooManyValues as error:
            if not self.ok:
                return None
            raise OutOfBounds(
                f"The upscaler sent more than {MAX_VALUES:,} values of JSON; no answer about "
                "a picture needs them."
            ) from error
        except ValueError:
            return None

    def json(self) -> Any:
        """Return the body as JSON, or raise ProtocolError."""
        if self.document is None:
            kind = self.headers.get("content-type", "no content type")
            raise ProtocolError(
                f"The upscaler answered {self.status} with something that is no JSON ({kind})."
            )
        return self.document


def raise_for_status(reply: Reply, who: str) -> None:
    """Raise what a status other than 2xx means; see `failure`."""
    if not reply.ok:
        raise failure(reply, who)


def failure(  # noqa: PLR0911 - one return for each meaning
    reply: Reply, who: str, *, error_text: Sequence[str] = (), wait_429: float | None = None
) -> UpscalerError:
    """Return the error that an unsuccessful answer means.

    `error_text` has JSON pointers to the explanation, tried before the usual places; `wait_429` the
    seconds to wait after 429 when the server does not say.
    """
    status = reply.status
    said = explanation(reply, error_text)
    because = f": {said}" if said else "."
    pause = retry_after(reply.headers)
    if status == 402 or (status == 429 and _is_quota(reply)):
        return QuotaSpent(f"{who!r} has no credit left{because}", retry_after=pause or 600.0)
    if status == 429:
        wait = pause if pause is not None else wait_429
        return TooManyCalls(f"{who!r} may not be called so often{because}", wait_s=wait)
    if status in {409, 503}:
        return Busy(f"{who!r} is busy ({status}){because}", wait_s=pause)
    if status in {401, 403}:
        return BadCredentials(
            f"{who!r} refuses the API token ({status}){because} Check the variable that its "
            "token_env names."
        )
    if status in {404, 405, 410} or 300 <= status < 400:
        return Misconfigured(
            f"{who!r} knows no such address or model ({status}){because} Check its url and model."
        )
    if status == 413:
        return UpscalerRejected(f"The image is too large for {who!r}{because}")
    if status in {408, 425, 502, 504}:
        return AnswerLost(f"{who!r} did not answer in time ({status}){because}")
    if status >= 500:
        return GenerationFailed(f"{who!r} failed ({status}){because}")
    if status >= 400:
        return UpscalerRejected(f"{who!r} refuses this input ({status}){because}")
    return ProtocolError(f"{who!r} answered with status {status}.")


def explanation(reply: Reply, error_text: Sequence[str] = ()) -> str:
    """Return the server's explanation, one line of at most 300 characters; may be empty."""
    if reply.document is None:
        text = bytes(reply.body[:1024]).decode("utf-8", "replace").lstrip()
        said = "" if text.startswith("<") or "\0" in text else text
    else:
        configured = (_text_of(first(reply.document, place)) for place in error_text)
        said = next(filter(None, configured), "") or _text_of(reply.document)
    # Redacted before it is cut, which may cut a token.
    return _one_line(reply.redact(said))


def seconds_of(value: Any) -> float | None:
    """Return a duration from an answer, 0 to an hour, or None if it has none."""
    seconds = _number(value)
    return None if seconds is None else min(max(seconds, 0.0), _MAX_WAIT_S)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, at most an hour, or None."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return seconds_of(milliseconds / 1000)
    value = headers.get("retry-after")
    if value is not None:
        seconds = _number(value)
        if seconds is None:
            with suppress(ValueError, OverflowError):
                when = email.utils.parsedate_to_datetime(value)
                when = when if when.tzinfo else when.replace(tzinfo=UTC)
                seconds = (when - datetime.now(UTC)).total_seconds()
        if seconds is not None:
            return seconds_of(seconds)
    # With calls remaining, the reset does not matter.
    if _number(headers.get("ratelimit-remaining")):
        return None
    return seconds_of(headers.get("ratelimit-reset"))


def _is_quota(reply: Reply) -> bool:
    codes = {str(first(reply.document, place)) for place in ("/error/code", "/error/type", "/code")}
    return bool(codes & _QUOTA_CODES)


def _text_of(value: Any, depth: int = _DEEPEST) -> str:
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "; ".join(filter(None, (_text_of(item, depth - 1) for item in value[:5])))
    if depth and isinstance(value, dict):
        if "msg" in value:
            loc, said = value.get("loc"), str(value["msg"])
            place = ".".join(str(step) for step in loc[:9]) if isinstance(loc, list) else ""
            return f"{place}: {said}" if place else said
        for key in ("error", "detail", "message", "errors", "title"):
            if text := _text_of(value.get(key), depth - 1):
                return text
    return ""


def _one_line(text: str) -> str:
    # A lone surrogate of JSON cannot be encoded.
    line = re.sub(r"[\s\x00-\x1f\x7f\ud800-\udfff]+", " ", text[: 8 * _TEXT_LIMIT]).strip()
    return line if len(line) <= _TEXT_LIMIT else line[: _TEXT_LIMIT - 1] + "…"


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def find_all(document: Any, pointer: str) -> list[Any]:
    """Return every value that the pointer names; without `*` at most one."""
    where, *rest = _EVERY.split(pointer, maxsplit=1)
    resolved = JsonPointer(where).resolve(document, _NOTHING)
    if resolved is _NOTHING or isinstance(resolved, EndOfList):
        return []
    if not rest:
        return [resolved]
    return (
        [leaf for value in resolved for leaf in find_all(value, rest[0])]
        if type(resolved) is list
        else []
    )


def first(document: Any, pointer: str) -> Any:
    """Return the first value that the pointer names, or None."""
    return next(iter(find_all(document, pointer)), None)


def valid_pointer(pointer: str) -> str:
    """Return the pointer, or raise ValueError if it is none."""
    try:
        JsonPointer(pointer)
    except JsonPointerException as error:
        raise ValueError(f"no JSON pointer (RFC 6901): {error}") from error
    return pointer


Pointer = Annotated[
    str, AfterValidator(valid_pointer), Field(description="JSON pointer, RFC 6901.")
]


def images(document: Any) -> list[str]:
    """Return pointers to what looks like an image; links last."""
    found = [leaf for leaf in leaves(document) if _is_image(leaf[1])]
    return [place for place, _ in sorted(found, key=lambda leaf: leaf[1].startswith("http"))]


def outline(document: Any) -> str:
    """Return a dozen pointers of a document, without values.

    Such as "/id, /output/0 (looks like an image)".
    """
    found = sorted(leaves(document), key=lambda leaf: not _is_image(leaf[1]))
    named = [
        pointer[:_MAX_LETTERS] + (" (looks like an image)" if _is_image(value) else "")
        for pointer, value in found[:_MAX_NAMED]
    ]
    more = ["…"] if len(found) > _MAX_NAMED else []
    return ", ".join([*named, *more]) or "nothing"


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and _IMAGE.match(value) is not None


def leaves(document: Any) -> Iterator[tuple[str, Any]]:
    """Pointers and values of what is no object or array, or named too long to look into.

    At most 10,000 values are looked at, of which a large answer has more.
    """
    waiting = [iter([("", document)])]
    for _ in range(_MAX_LOOKED_AT):
        while (found := next(waiting[-1], None)) is None:
            waiting.pop()
            if not waiting:
                return
        pointer, value = found
        if isinstance(value, dict | list) and len(pointer) < _MAX_POINTER:
            waiting.append(_steps(pointer, value))
        else:
            yield pointer[:_MAX_POINTER], value


def _steps(pointer: str, value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        return ((f"{pointer}/{place}", item) for place, item in enumerate(value))
    named = ((name[:_MAX_POINTER], item) for name, item in value.items())
    return ((pointer + JsonPointer.from_parts([name]).path, item) for name, item in named)
