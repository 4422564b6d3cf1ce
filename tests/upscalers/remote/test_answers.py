"""What answers mean; any answer makes samples or an error of the upscaler."""

import asyncio
import itertools
import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.pictures import config, patient, source
from trustscale_server.platform.errors import UpscalerError, UpscalerRejected
from trustscale_server.platform.problems import problem_of
from trustscale_server.upscalers.failures import (
    AnswerLost,
    BadCredentials,
    Busy,
    GenerationFailed,
    Misconfigured,
    QuotaSpent,
    TooManyCalls,
    retriable,
)
from trustscale_server.upscalers.registry import build_bare
from trustscale_server.upscalers.remote.replies import Reply, explanation, failure, retry_after

URL = "http://upstream.example"
SOURCE = source()
POLLED = {
    "request": {"form": "json", "json": {"image": "{image_b64}"}},
    "answer": {"image": "json", "pointer": "/output/*", "error_text": ["/error"]},
    "poll": {"url_pointer": "/urls/get", "interval_s": 0.001,
     "done": [{"pointer": "/status", "in": ["succeeded"]}], "failed": [{"pointer": "/error"}],
     "result_url_pointer": "/url"},
    "cancel": {"url_pointer": "/urls/cancel"},
}  # fmt: skip
BY_ID = {
    "request": {"form": "multipart"},
    "poll": {"path": "/results/{id}", "interval_s": 0.001, "done": [{"status": [200]}]},
}
UPSCALERS = {
    "cog": {"kind": "cog", "url": URL, "scale": 2},
    "replicate": {
        "kind": "replicate", "url": URL, "scale": 2, "model": "a/b", "token_env": None,
        "allow_private": True,
    },
    "oip": {"kind": "oip", "url": URL, "scale": 2, "model": "m", "seed_input": "seeds"},
    "oip-png": {
        "kind": "oip", "url": URL, "scale": 2, "model": "m", "tensor_format": "binary",
        "image_layout": "PNG", "output_layout": "PNG",
    },
    "worker": {"kind": "worker", "urls": [URL]},
    "gradio": {"kind": "gradio", "url": URL, "scale": 2, "api_name": "upscale"},
    "http-polled": {"kind": "http", "url": URL, "scale": 2, **POLLED},
    "http-by-id": {"kind": "http", "url": URL, "scale": 2, **BY_ID},
}  # fmt: skip

KEYS = (
    "status", "output", "error", "urls", "get", "cancel", "id", "event_id",
    "data", "parameters", "fingerprint", "scale", "outputs", "name", "shape", "datatype",
    "detail", "loc", "msg", "message", "errors", "code", "estimated_time", "latest_version",
    "current_release", "named_endpoints", "/upscale", "api_prefix", "extensions", "models",
    "max_samples", "path", "url", "data_removed", "model", "version", "samples",
    "binary_data_size", "0",
)  # fmt: skip
LINKS = (
    "", "/", "//", "..host", "/\ud800", "\x00", "/a\x00b", "http://[::1", "http://..host/x",
    f"https://{'a' * 70}.example/x", "https://a..b/x", f"{URL}/next", f"{URL}/\x00", f"{URL}:x/",
    "http://user@upstream.example/", "data:image/png;base64,AAAA", "data:,", "%", "/%ff?#",
)  # fmt: skip
WORDS = ("succeeded", "processing", "failed", "READY", "samples", "UINT8", "BYTES", "m", "upscale")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.sampled_from([float("nan"), float("inf"), -1e300, 10**400, -(10**400), 2**64]),
    st.sampled_from([*LINKS, *WORDS]),
    st.text(max_size=5),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=3)), inner, max_size=6),
    ),
    max_leaves=12,
)
STATUSES = st.sampled_from([200, 200, 200, 200, 201, 202, 204, 302, 400, 402, 404, 409, 422, 500])
ANSWERS = st.lists(st.tuples(STATUSES, DOCUMENTS), min_size=1, max_size=5)


def upstream(answers):
    """A transport that gives these answers in turn, and then none any more."""
    bodies = itertools.cycle(answers)
    given = itertools.count()

    async def answer(request):
        if next(given) > 8:  # or what says "processing" for ever would be asked for ever
            return httpx.Response(410)
        status, document = next(bodies)
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        if request.headers.get("accept") == "text/event-stream" or "/call/" in request.url.path:
            event = b"error" if status > 400 else b"complete"
            body = body + b"\n\nevent: " + event + b"\ndata: " + body + b"\n\n"
        return httpx.Response(status, content=body)

    async def resolve(host, port):
        host.encode("idna")  # as the system's resolver does
        return ["93.184.216.34"]

    return patient(answer, resolve)


async def ask(name, answers, build=build_bare, **settings):
    """Check, then generate; every error is the upscaler's, and a problem document."""
    upscaler = build(config(**UPSCALERS[name], **settings), {}, network=answers)
    try:
        async with asyncio.timeout(60):
            for step in (upscaler.probe(), upscaler.generate(SOURCE, [1])):
                try:
                    await step
                except UpscalerError as error:
                    json.dumps(problem_of(error), allow_nan=False).encode()
    finally:
        await upscaler.close()


@pytest.mark.parametrize("name", UPSCALERS)
def test_json_of_any_shape(name):
    """No answer makes an adapter raise anything but an upscaler's error."""
    with asyncio.Runner() as runner:

        @settings(max_examples=60, derandomize=True, database=None, deadline=None)
        @given(ANSWERS)
        def judge(answers):
            runner.run(ask(name, upstream(answers)))

        judge()


BROKE_IT = [
    {"loc": 5, "msg": "x"}, {"detail": [{"loc": None, "msg": None}]},
    json.loads("[" * 900 + "]" * 900), b"[" * 100_000, {"estimated_time": float("nan")},
    {"estimated_time": -1e999}, {"estimated_time": 10**400}, {"status": []},
    {"named_endpoints": 5, "extensions": 5},
    *({"urls": {"get": link, "cancel": link}, "url": link, "id": link} for link in LINKS),
]  # fmt: skip


@pytest.mark.parametrize("name", UPSCALERS)
@pytest.mark.parametrize("status", [200, 503])
async def test_what_has_broken_it(name, status):
    for document in BROKE_IT:
        await ask(name, upstream([(status, document)]))


@pytest.mark.parametrize("name", [name for name in UPSCALERS if name != "worker"])
@pytest.mark.parametrize(("status", "kind"), [(401, BadCredentials), (503, Busy)])
async def test_statuses(name, status, kind):
    answers = patient(lambda _: httpx.Response(status, json={"error": "no"}))
    up = build_bare(config(**UPSCALERS[name]), {}, network=answers)
    with pytest.raises(kind):
        await up.generate(SOURCE, [1])
    await up.close()


def reply(status, body=b""):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {}, content)


@pytest.mark.parametrize(
    ("status", "kind", "again"),
    [
        (401, BadCredentials, False), (402, QuotaSpent, False), (404, Misconfigured, False),
        (408, AnswerLost, True), (409, Busy, True), (422, UpscalerRejected, False),
        (429, TooManyCalls, True), (500, GenerationFailed, True), (503, Busy, True),
        (504, AnswerLost, True), (302, Misconfigured, False),
    ],
)  # fmt: skip
def test_kinds_of_failures(status, kind, again):
    error = failure(reply(status), "up")
    assert type(error) is kind
    assert retriable(error) is again


@pytest.mark.parametrize(
    "body", [{"error": {"code": "insufficient_quota"}}, {"code": "insufficient_quota"}]
)
def test_a_spent_quota(body):
    """It comes as 429 too, and waiting does not help."""
    error = failure(reply(429, body), "up")
    assert (type(error), retriable(error)) == (QuotaSpent, False)


class TestExplanation:
    @pytest.mark.parametrize(
        ("body", "text"),
        [({"error": "no model"}, "no model"), ({"error": {"message": "bad key"}}, "bad key"),
         ({"detail": [{"loc": ["body", "x"], "msg": "required"}]}, "body.x: required"),
         ({"id": "1", "name": "n", "errors": ["a", "b"]}, "a; b"), (b"plain\n text", "plain text"),
         (b"<html>500</html>", ""), (b"\x89PNG\0", "")],
    )  # fmt: skip
    def test_shapes(self, body, text):
        assert explanation(reply(500, body)) == text

    def test_configured_place(self):
        body = {"error": "general", "info": {"why": "special"}}
        assert explanation(reply(500, body), ["/info/why"]) == "special"


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None), ({"retry-after": "7"}, 7), ({"retry-after": "-7"}, 0),
            ({"retry-after": "999999"}, 3600), ({"retry-after": "soon"}, None),
            ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
            ({"ratelimit-reset": "12", "ratelimit-remaining": "0"}, 12),
            ({"ratelimit-reset": "12", "ratelimit-remaining": "599"}, None),
            ({"retry-after": "nan"}, None),
        ],
    )  # fmt: skip
    def test_headers(self, headers, seconds):
        assert retry_after(headers) == seconds

    def test_date(self, time_machine):
        time_machine.move_to("2026-05-17T12:00:00Z", tick=False)
        assert retry_after({"retry-after": "Sun, 17 May 2026 12:00:30 GMT"}) == 30
