"""An answer of an upscaler: what it says, and the error that it means.

Servers say "busy" with 409 (Cog), 429 (BentoML) or 503 (Triton, Gradio), and explain errors as
`error`, `detail` (text or list), `errors` or plain text, whatever the content type.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from trustscale_server.platform.errors import ProtocolError, UpscalerError, UpscalerRejected
from trustscale_server.upscalers.bounded_json import MAX_VALUES, TooManyValues, parse
from trustscale_server.upscalers.failures import (
    AnswerLost,
    BadCredentials,
    Busy,
    GenerationFailed,
    Misconfigured,
    OutOfBounds,
    QuotaSpent,
    TooManyCalls,
)
from trustscale_server.upscalers.pointers import first

_TEXT_LIMIT = 300


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


def raise_for_status(reply: Reply, name: str) -> None:
    """Raise what a status other than 2xx means; see `failure`."""
    if not reply.ok:
        raise failure(reply, name)


def failure(  # noqa: PLR0911 - one return for each meaning
    reply: Reply, name: str, *, error_text: Sequence[str] = (), wait_429: float | None = None
) -> UpscalerError:
    """Return the error that an unsuccessful answer means.

    `error_text` has JSON pointers to the explanation, tried before the usual places; `wait_429` the
    seconds to wait after 429 when the server does not say.
    """
    status = reply.status
    reason = explanation(reply, error_text)
    because = f": {reason}" if reason else "."
    pause = retry_after(reply.headers)
    if status == 402 or (status == 429 and _is_quota(reply)):
        return QuotaSpent(f"{name!r} has no credit left{because}", retry_after=pause or 600.0)
    if status == 429:
        wait = pause if pause is not None else wait_429
        return TooManyCalls(f"{name!r} may not be called so often{because}", wait_s=wait)
    if status in {409, 503}:
        return Busy(f"{name!r} is busy ({status}){because}", wait_s=pause)
    if status in {401, 403}:
        return BadCredentials(
            f"{name!r} refuses the API token ({status}){because} Check the variable that its "
            "token_env names."
        )
    if status in {404, 405, 410} or 300 <= status < 400:
        return Misconfigured(
            f"{name!r} knows no such address or model ({status}){because} Check its url and model."
        )
    if status == 413:
        return UpscalerRejected(f"The image is too large for {name!r}{because}")
    if status in {408, 425, 502, 504}:
        return AnswerLost(f"{name!r} did not answer in time ({status}){because}")
    if status >= 500:
        return GenerationFailed(f"{name!r} failed ({status}){because}")
    if status >= 400:
        return UpscalerRejected(f"{name!r} refuses this input ({status}){because}")
    return ProtocolError(f"{name!r} answered with status {status}.")


def explanation(reply: Reply, error_text: Sequence[str] = ()) -> str:
    """Return the server's explanation, one line of at most 300 characters; may be empty."""
    if reply.document is None:
        text = bytes(reply.body[:1024]).decode("utf-8", "replace").lstrip()
        reason = "" if text.startswith("<") or "\0" in text else text
    else:
        configured = (_text_of(first(reply.document, place)) for place in error_text)
        reason = next(filter(None, configured), "") or _text_of(reply.document)
    # Redacted before it is cut, which may cut a token.
    return _one_line(reply.redact(reason))


def seconds_of(value: Any) -> float | None:
    """Return a duration from an answer, 0 to an hour, or None if it has none."""
    seconds = _number(value)
    return None if seconds is None else min(max(seconds, 0.0), 3600.0)


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
    return bool(codes & {"insufficient_quota", "billing_hard_limit_reached", "payment_required"})


def _text_of(value: Any, depth: int = 6) -> str:
    """The explanation in a value, at most `depth` levels deep; may be empty."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "; ".join(filter(None, (_text_of(item, depth - 1) for item in value[:5])))
    if depth and isinstance(value, dict):
        if "msg" in value:
            location, message = value.get("loc"), str(value["msg"])
            path = (
                ".".join(str(step) for step in location[:9]) if isinstance(location, list) else ""
            )
            return f"{path}: {message}" if path else message
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
