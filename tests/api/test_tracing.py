"""One trace from the request to the last sample, also where a job takes over."""

from __future__ import annotations

import pytest

from app.telemetry import tracing
from tests.api.admin import truth_files
from tests.api.gateway import ADMIN_KEY, ended, post
from tests.live import serving
from tests.spans import recorded
from tests.upscalers.remote.pictures import adapter
from tests.upscalers.remote.pictures import source as picture
from tests.workers.fakes import SleepingEngine
from workers.service import create_app

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.fixture
def spans():
    with recorded() as found:
        yield found


def of_trace(spans, trace=TRACE):
    """Names of the spans of a trace, each once."""
    return {span.name for span in spans.all() if f"{span.context.trace_id:032x}" == trace}


def test_a_request(spans, client):
    """From decoding to storing, with one span per call, and with the facts of the calibration."""
    answer = post(client, seed=1, headers={**HEADERS, "X-Request-ID": "mine"})
    assert answer.status_code == 200
    tree = {(span.name, spans.parent(span)) for span in spans.all()}
    assert tree == {
        ("POST /v1/upscale", None),
        ("wait", "POST /v1/upscale"),
        ("decode", "POST /v1/upscale"),
        ("upscale", "POST /v1/upscale"),
        ("wait", "upscale"),
        ("samples", "upscale"),
        ("call", "samples"),
        ("indecision", "upscale"),
        ("encode", "upscale"),
        ("store", "upscale"),
    }
    assert len(spans.named("call")) == 4
    assert of_trace(spans) == {name for name, _ in tree}
    assert spans.one("POST /v1/upscale").attributes == {
        "trustscale.request_id": "mine",
        "http.request.method": "POST",
        "http.route": "/v1/upscale",
        "http.response.status_code": 200,
    }
    facts = {
        "trustscale.upscaler": "fake",
        "trustscale.calibration": answer.json()["calibration"],
        "trustscale.width": 24,
        "trustscale.height": 24,
    }
    assert dict(spans.one("upscale").attributes).items() >= facts.items()
    assert answer.json()["id"] not in spans.said()
    assert "photo.png" not in spans.said()


def test_without_headers_a_trace_begins(spans, client):
    """Two requests are two traces; health and metrics leave no span."""
    for path in ("/v1/upscalers", "/healthz", "/readyz", "/metrics", "/v1/upscalers"):
        client.get(path)
    first, second = spans.all()
    assert first.parent is None
    assert first.context.trace_id != second.context.trace_id


def test_failures(spans, client, upscaler):
    """A failed request, and where it failed, are marked; a client's mistake is not a failure."""
    upscaler.failure = RuntimeError("key-of-somebody")
    assert post(client).status_code == 500
    assert spans.one("POST /v1/upscale").attributes["error.type"] == "500"
    assert spans.named("call")[0].attributes["error.type"] == "RuntimeError"
    assert "key-of-somebody" not in spans.said()
    assert client.get("/v1/results/nothing").status_code == 404
    assert spans.one("GET /v1/results/{result_id}").status.status_code.name == "UNSET"


def test_an_upscaling_job(spans, client):
    """The job's spans belong to the trace of the request that left it."""
    accepted = post(client, headers={**HEADERS, "Prefer": "respond-async"})
    assert ended(client, accepted.headers["location"])["state"] == "succeeded"
    assert {"submit", "job attempt", "upscale", "samples", "store"} <= of_trace(spans)
    attempt = spans.one("job attempt")
    assert spans.parent(attempt) == "submit"
    assert attempt.attributes == {
        "trustscale.job_kind": "upscale",
        "trustscale.outcome": "succeeded",
    }
    assert accepted.json()["id"] not in spans.said()


def test_a_calibration_job(spans, admin):
    """One span per pair and one for the reduction; names of pairs stay out of them."""
    admin.create(truth_files(3))
    submit = spans.one("submit")
    trace = f"{submit.context.trace_id:032x}"
    assert {"job attempt", "task", "reduce", "samples", "call"} <= of_trace(spans, trace)
    assert len(spans.named("task")) == 3
    assert all(spans.parent(task) == "submit" for task in spans.named("task"))
    assert spans.parent(spans.one("reduce")) == "job attempt"
    assert "000" not in {word.strip("'}") for word in spans.said().split()}
    assert ADMIN_KEY not in spans.said()


async def test_our_worker_is_told(spans):
    """A call to the torch worker says to which trace it belongs, and the worker goes on."""
    heard = []
    app = create_app(SleepingEngine())

    async def listening(scope, receive, send):
        if scope["type"] == "http" and scope["path"].endswith("/infer"):
            heard.append(dict(scope["headers"]).get(b"traceparent", b"").decode())
        await app(scope, receive, send)

    with serving(listening) as address:
        upscaler = adapter(None, kind="worker", urls=[f"http://{address}"], model="sleeper")
        with tracing.span("call", parent=HEADERS):
            await upscaler.generate(picture(), [1])
        await upscaler.close()
    assert heard == [f"00-{TRACE}-{spans.one('call').context.span_id:016x}-01"]
    inferred = spans.one("infer")
    assert spans.parent(inferred) == "call"
    assert inferred.attributes["trustscale.samples"] == 1
