"""Metrics and traces of the API."""

import asyncio
import re
import threading

import pytest

from app.errors import UpscalerUnavailable
from app.stores.base import StoreUnavailable
from app.telemetry import tracing
from tests.api.gateway import ended, post, shown
from tests.fakes import FakeUpscaler
from tests.live import serving
from tests.numbers import parsed_metrics
from tests.spans import recorded
from tests.upscalers.remote.pictures import adapter
from tests.upscalers.remote.pictures import source as picture
from tests.workers.fakes import SleepingEngine
from workers.service import create_app


def metrics(client):
    return parsed_metrics(client.get("/metrics").text)


class TestCalibration:
    def test_the_active_one(self, client, calibration):
        """Age, n, smallest and default α are those of the calibration that is served."""
        found = metrics(client)
        expected = {
            "active": 1,
            "mismatch": 0,
            "created_timestamp_seconds": calibration.manifest.created_at.timestamp(),
            "pairs": calibration.n,
            "min_alpha": calibration.curve.min_alpha,
            "default_alpha": 0.1,
        }
        names = {name: f"trustscale_calibration_{name}" for name in expected}
        assert {name: found[names[name], "fake"] for name in names} == pytest.approx(expected)

    def test_none_and_another(self, start):
        """Both show at the first scrape, before any request is refused; what is not has no age."""
        found = metrics(start(FakeUpscaler(fingerprint="fake:2"), FakeUpscaler("bare")))
        assert found["trustscale_calibration_mismatch", "fake"] == 1
        assert found["trustscale_calibration_active", "bare"] == 0
        assert ("trustscale_calibration_min_alpha", "bare") not in found

    def test_a_scrape_does_not_call_upscalers(self, client, upscaler):
        """An upscaler that is away changes nothing: only /readyz asks it, and its answer stays."""
        upscaler.failure = UpscalerUnavailable("The model is asleep.")
        assert metrics(client)["trustscale_calibration_mismatch", "fake"] == 0
        client.get("/readyz")
        found = metrics(client)
        assert found["trustscale_ready", "upscaler:fake"] == 0
        assert found["trustscale_ready", "store"] == 1
        upscaler.failure = None
        client.get("/readyz")
        assert metrics(client)["trustscale_ready", "upscaler:fake"] == 1


def test_by_route_template(client):
    answer = post(client).json()
    client.get(answer["links"]["mask"])
    client.get("/no/such/path")
    client.request("BREW", "/pot")
    client.head("/healthz")
    text = client.get("/metrics").text
    for name in (answer["id"], "/no/such/path", "BREW"):
        assert name not in text
    routes = set(re.findall(r'trustscale_requests_total{.*?route="([^"]*)"', text))
    assert {"/v1/upscale", "/v1/results/{result_id}/{part}.png", "unmatched"} <= routes
    assert 'method="other"' in text
    assert 'method="HEAD",route="/healthz"' in text


async def test_taken_and_awaited(serve):
    """What holds a slot and what waits for one show while they do, beside the bounds."""
    upscaler = FakeUpscaler(gate=threading.Event())
    async with serve(upscaler, max_in_flight=1, max_waiting=4) as served:
        client = served.client
        requests = [asyncio.create_task(served.post()) for _ in "ab"]
        seen = [("trustscale_slots", state) for state in ("in_flight", "waiting")]
        await shown(client, *(f'{name}{{state="{state}"}} 1.0' for name, state in seen))
        found = parsed_metrics((await client.get("/metrics")).text)
        assert found["trustscale_slots_limit", "in_flight"] == 1
        assert found["trustscale_slots_limit", "waiting"] == 4
        upscaler.gate.set()
        await asyncio.gather(*requests)
        found = parsed_metrics((await client.get("/metrics")).text)
        assert [found[key] for key in seen] == [0, 0]


def test_one_that_is_away(start, monkeypatch):
    """The scrape is answered all the same, with what was last known, and says so."""
    client = start()
    assert metrics(client)["trustscale_store_up",] == 1

    async def away(_):
        raise StoreUnavailable("The store is away.")

    monkeypatch.setattr("app.stores.jobs.JobStore.unfinished", away)
    found = metrics(client)
    assert found["trustscale_store_up",] == 0
    assert found["trustscale_calibration_active", "fake"] == 1


def test_each_is_counted_once_by_its_type(start):
    """Expected errors, wrong forms, unknown paths and methods count under their type."""
    upscaler = FakeUpscaler()
    client = start(upscaler)
    post(client, b"text")
    post(client, alpha=-1)
    client.post("/v1/upscale")
    client.get("/no/such/path")
    client.put("/v1/upscale")
    upscaler.failure = RuntimeError("broken")
    post(client)
    upscaler.fingerprint = "fake:2"
    post(client)
    found = metrics(client).items()
    counted = {key[1]: value for key, value in found if key[0] == "trustscale_problems_total"}
    told = ("unsupported-media", "bad-alpha", "bad-request", "not-found", "method-not-allowed")
    assert counted == dict.fromkeys((*told, "internal-error", "calibration-mismatch"), 1)


TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.fixture
def spans():
    with recorded() as found:
        yield found


def of_trace(spans, trace=TRACE):
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
    told = dict(spans.one("POST /v1/upscale").attributes)
    assert (told["trustscale.request_id"], told["http.response.status_code"]) == ("mine", 200)
    told = dict(spans.one("upscale").attributes)
    assert told["trustscale.calibration"] == answer.json()["calibration"]
    assert answer.json()["id"] not in spans.said()
    assert "photo.png" not in spans.said()


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
