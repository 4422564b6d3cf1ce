"""What HTTP answers mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from app.errors import UpscalerRejected
from app.upscalers.remote.errors import (
    AnswerLost,
    BadCredentials,
    Busy,
    GenerationFailed,
    Misconfigured,
    ProtocolError,
    QuotaSpent,
    TooManyCalls,
    asked_wait,
    reason,
    retriable,
)
from app.upscalers.remote.translation import Reply, explanation, failure, retry_after

CODE = "insufficient_quota"


def reply(status, body=b""):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {}, content)


class TestFailure:
    @pytest.mark.parametrize(
        ("status", "kind", "again"),
        [
            (400, UpscalerRejected, False),
            (401, BadCredentials, False),
            (402, QuotaSpent, False),
            (403, BadCredentials, False),
            (404, Misconfigured, False),
            (408, AnswerLost, True),
            (409, Busy, True),
            (413, UpscalerRejected, False),
            (422, UpscalerRejected, False),
            (429, TooManyCalls, True),
            (500, GenerationFailed, True),
            (502, AnswerLost, True),
            (503, Busy, True),
            (504, AnswerLost, True),
            (302, Misconfigured, False),
            (199, ProtocolError, True),
        ],
    )
    def test_kinds(self, status, kind, again):
        """Each status has one meaning, and only what may pass is tried again."""
        error = failure(reply(status), "up")
        assert type(error) is kind
        assert retriable(error) is again

    @pytest.mark.parametrize("place", [{"error": {"code": CODE}}, {"code": CODE}])
    def test_quota(self, place):
        """A spent quota comes as 429 too, and waiting does not help."""
        error = failure(reply(429, place), "up")
        assert (type(error), reason(error)) == (QuotaSpent, "quota")

    @pytest.mark.parametrize(
        ("headers", "pause", "asked"),
        [({}, 60, 60), ({"retry-after": "3"}, 60, 3), ({}, None, None)],
    )
    def test_rate_limit(self, headers, pause, asked):
        """A provider's known pause stands in for a missing Retry-After."""
        assert asked_wait(failure(Reply(429, headers, b""), "up", wait_429=pause)) == asked


class TestExplanation:
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"error": "no model"}, "no model"),
            ({"error": {"message": "bad key"}}, "bad key"),
            ({"detail": "Not found"}, "Not found"),
            ({"detail": [{"loc": ["body", "x"], "msg": "required"}]}, "body.x: required"),
            ({"id": "1", "name": "n", "errors": ["a", "b"]}, "a; b"),
            ({"title": "Unauthenticated"}, "Unauthenticated"),
            (b"plain\n text", "plain text"),
            (b"<html>500</html>", ""),
            (b"\x89PNG\0", ""),
            (b"", ""),
        ],
    )
    def test_shapes(self, body, text):
        """Explanations are found in every shape that servers use, whatever the content type."""
        assert explanation(reply(500, body)) == text

    def test_configured_place(self):
        """Configured pointers go first."""
        body = {"error": "general", "info": {"why": "special"}}
        assert explanation(reply(500, body), ["/info/why"]) == "special"

    @pytest.mark.parametrize("body", [{"error": "x" * 5000}, b"[" * 70000])
    def test_length(self, body):
        """An endless explanation is cut."""
        assert len(explanation(reply(500, body))) == 300


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "7"}, 7.0),
            ({"retry-after": "-7"}, 0.0),
            ({"retry-after": "999999"}, 3600.0),
            ({"retry-after": "soon"}, None),
            ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
            ({"ratelimit-reset": "12", "ratelimit-remaining": "0"}, 12.0),
            ({"ratelimit-reset": "12", "ratelimit-remaining": "599"}, None),
            ({"retry-after": "nan"}, None),
        ],
    )
    def test_headers(self, headers, seconds):
        """Seconds, milliseconds and rate-limit resets are understood, nonsense is ignored."""
        assert retry_after(headers) == seconds

    def test_date(self):
        """An HTTP date means the time until then."""
        when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
        assert 28 < retry_after({"retry-after": when}) <= 30
