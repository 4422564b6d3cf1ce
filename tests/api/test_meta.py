"""What surrounds the API: health, headers, metrics, traces, its document, who runs alone."""

import asyncio
import re
from contextlib import aclosing

import pytest

from harness.factories import changed
from harness.fakes import FakeUpscaler
from harness.gateway import check_problem, ended, post
from tests.clock import LoopClock
from tests.numbers import parsed_metrics
from tests.spans import recorded
from tests.upscalers.resilient import Inner
from trustscale_server.bootstrap.checks import single_process_lock
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.calibrating.activation import Answering
from trustscale_server.calibration.guarantee_kinds import AFTER_LOOKING
from trustscale_server.calibration.insight import COMMON_ALPHAS, ThresholdRow
from trustscale_server.http.health_checks import HealthChecks
from trustscale_server.http.routes.upscalers import levels_of
from trustscale_server.platform.errors import ConfigError, UpscalerUnavailable
from trustscale_server.stores.documents import StoreUnavailable


class TestHealth:
    def components(self, client, status):
        response = client.get("/readyz")
        assert response.status_code == status
        return response.json()["components"]

    def test_ready(self, client, calibration):
        components = self.components(client, 200)
        assert set(components) == {"store", "jobs", "upscaler:fake"}
        assert all(component["ready"] for component in components.values())
        assert components["upscaler:fake"]["calibration"] == calibration.id

    def test_an_upscaler_that_cannot_be_reached(self, client, upscaler):
        """/metrics alone keeps readiness fresh, too."""
        assert metrics(client)["trustscale_ready", "upscaler:fake"] == 1
        upscaler.failure = UpscalerUnavailable("The model is asleep.")
        found = metrics(client)
        assert found["trustscale_ready", "upscaler:fake"] == 0
        assert found["trustscale_ready", "store"] == 1
        assert found["trustscale_calibration_mismatch", "fake"] == 0
        assert self.components(client, 503)["upscaler:fake"]["detail"] == "The model is asleep."
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/upscalers").status_code == 200


def test_every_answer_has_one(client, upscaler):
    """Each answer has one; a client's is kept if it is harmless and cannot break a log line."""
    upscaler.failure = RuntimeError("secret detail")
    responses = [client.get("/healthz"), client.get("/nothing"), post(client, b"text")]
    responses += [post(client)]
    assert "secret" not in check_problem(responses[-1], "internal-error")["detail"]
    assert len({response.headers["x-request-id"] for response in responses}) == 4
    kept = client.get("/healthz", headers={"X-Request-ID": "trace-7.a_B"})
    assert kept.headers["x-request-id"] == "trace-7.a_B"
    for sent in ("a b", "x" * 65, 'a"b', "", "ä".encode("latin-1")):
        response = client.get("/healthz", headers={"X-Request-ID": sent})
        assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


def lock(folder, **settings):
    return single_process_lock(Settings(data_dir=folder, **settings))


def test_a_data_folder_has_one_gateway(tmp_path):
    """A second one is refused while the first runs, and one whose queue others do not see."""
    with lock(tmp_path), pytest.raises(ConfigError, match="Another gateway"), lock(tmp_path):
        pass
    with lock(tmp_path):
        pass
    for more in (
        {"embedded_job_worker": False},
        {"queue": "redis://127.0.0.1/0", "embedded_job_worker": True},
    ):
        with lock(tmp_path, **more), lock(tmp_path, **more):
            pass
    shared = "redis://:secret@127.0.0.1/0"
    with (
        pytest.raises(ConfigError, match="TRUSTSCALE_QUEUE") as caught,
        lock(tmp_path, store=shared),
    ):
        pass
    assert "secret" not in caught.value.detail


ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
# The same for everybody, so it may be kept.
DOCUMENTATION = ("/docs", "/docs/start.js", "/openapi.json", "/problems/bad-image")
PATHS = (*DOCUMENTATION, "/healthz", "/v1/upscalers", "/v1/results/none", "/no/such/path")


def policy(response):
    parts = response.headers["content-security-policy"].split("; ")
    return {part.partition(" ")[0]: part.partition(" ")[2] for part in parts}


def test_the_fixed_headers(client, upscaler):
    answers = {path: client.get(path) for path in PATHS}
    upscaler.failure = RuntimeError("broken")
    answers["/v1/upscale"] = post(client)
    assert answers["/v1/upscale"].status_code == 500
    answers["the framework's own 413"] = post(client, b"x" * 34_000_000)
    assert answers["the framework's own 413"].status_code == 413
    for path, response in answers.items():
        for name, value in ALWAYS.items():
            assert response.headers.get_list(name) == [value]
        directives = policy(response)
        for name in ("default-src", "frame-ancestors", "base-uri"):
            assert directives[name] == "'none'"
        kept = None if path in DOCUMENTATION else "no-store"
        assert response.headers.get("cache-control") == kept


async def test_one_question_for_all():
    """However many ask at once or soon after, the upscaler is asked once, also where it is away."""
    clock, inner = LoopClock(), Inner()
    async with aclosing(HealthChecks(10.0)) as checks:
        await asyncio.gather(*(checks.check(inner) for _ in range(50)))
        inner.failure = UpscalerUnavailable("away")
        clock.jump(9)
        await checks.check(inner)
        assert inner.checks == 1
        clock.jump(2)
        for _ in range(3):
            with pytest.raises(UpscalerUnavailable, match="away"):
                await checks.check(inner)
        assert inner.checks == 2


def metrics(client):
    return parsed_metrics(client.get("/metrics").text)


class TestCalibration:
    @pytest.mark.parametrize(
        ("areas", "answers", "names"),
        [
            ([0.1, 0.5], "jpeg-80", ["strict", "balanced", "lenient"]),
            ([0.1, None], "jpeg-80", ["balanced"]),  # one class can hold no promise after looking
            ([0.1, 0.5], "*", ["balanced"]),
            ([], "*", ["balanced"]),
        ],
    )
    def test_the_levels(self, calibration, areas, answers, names):
        """Three where each class can hold any of them, with its least and most trusted area."""

        def of_class(area):
            threshold = "-inf" if area is None else 1.0
            return [
                ThresholdRow(
                    alpha=alpha, threshold=threshold, trusted_fraction=10 * alpha * (area or 0)
                )
                for alpha in COMMON_ALPHAS
            ]

        asked = [Answering(id="", name=None, classes=[answers])]
        calibration = changed(calibration, default_alpha=sum(AFTER_LOOKING) / 2)
        found = levels_of(calibration, asked, [of_class(area) for area in areas])
        assert [one.name for one in found] == names
        (own,) = [one for one in found if one.name == "balanced"]
        assert own.alpha == calibration.manifest.default_alpha
        if len(names) == 3:
            assert [one.alpha for one in found] == sorted(one.alpha for one in found)
            assert own.most == pytest.approx(5 * own.least)

    def test_none_and_another(self, start):
        """Both show at the first scrape, before any request is refused; what is not has no age."""
        found = metrics(start(FakeUpscaler(fingerprint="fake:2"), FakeUpscaler("bare")))
        assert found["trustscale_calibration_mismatch", "fake"] == 1
        assert found["trustscale_calibration_active", "bare"] == 0
        assert ("trustscale_calibration_min_alpha", "bare") not in found


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


def test_one_that_is_away(start, monkeypatch):
    """The scrape is answered all the same, with what was last known, and says so."""
    client = start()
    assert metrics(client)["trustscale_store_up",] == 1

    async def away(*_):
        raise StoreUnavailable("The store is away.")

    monkeypatch.setattr("trustscale_server.stores.jobs.JobStore.waiting", away)
    found = metrics(client)
    assert found["trustscale_store_up",] == 0
    assert found["trustscale_calibration_active", "fake"] == 1


def test_each_is_counted_once_by_its_type(start):
    upscaler = FakeUpscaler()
    client = start(upscaler, max_upload_bytes=10_000)
    post(client, b"x" * 200_000)
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
    counted = {
        key[1]: value for key, value in found if key[0] == "trustscale_error_responses_total"
    }
    told = ("unsupported-media", "bad-alpha", "bad-request", "not-found", "method-not-allowed")
    told += ("image-too-large", "internal-error", "calibration-mismatch")
    assert counted == dict.fromkeys(told, 1)


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
        ("decode", "POST /v1/upscale"),
        ("upscale", "POST /v1/upscale"),
        ("wait", "upscale"),
        ("samples", "upscale"),
        ("call", "samples"),
        ("indecision", "upscale"),
        ("added", "upscale"),
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


def test_a_failed_request(spans, client, upscaler):
    """It is marked, and where it failed; no text of an error is in a span."""
    upscaler.failure = RuntimeError("key-of-somebody")
    assert post(client).status_code == 500
    assert spans.one("POST /v1/upscale").attributes["error.type"] == "500"
    assert spans.named("call")[0].attributes["error.type"] == "RuntimeError"
    assert "key-of-somebody" not in spans.said()


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
