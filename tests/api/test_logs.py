"""What log and metrics answer: who asked, which model, how long it waited, what it cost."""

import json

import trustscale_server
from harness.gateway import AS_ADMIN, check_problem, ended, post
from tests.logs import logging_as
from tests.numbers import numbers_of, parsed_metrics
from tests.upscalers.resilient import SOURCE, Inner, guarded
from trustscale_server.upscalers.failures import Busy

KEYS = {"client_keys": ["anna:client-key"], "admin_keys": ["ops:admin-key"]}
ANNA = {"Authorization": "Bearer client-key"}


def test_who_asked_for_what(start, capsys):
    """Lines name the key, the upscaler and the wait; whole ids of results and jobs never appear."""
    with logging_as("json"):
        client = start(**KEYS)
        client.headers.update(ANNA)
        result = post(client).json()
        assert client.get(result["links"]["image"]).status_code == 200
        job = post(client, headers={"Prefer": "respond-async"})
        assert ended(client, job.headers["location"])["state"] == "succeeded"
        client.get("/v1/admin/jobs", headers=AS_ADMIN)
    text = capsys.readouterr().err
    lines = [json.loads(line) for line in text.splitlines()]
    asked = [line for line in lines if line["event"] == "request" and line["method"] == "POST"]
    assert [(one["key"], one["upscaler"]) for one in asked] == [("anna", "fake")] * 2
    assert asked[0]["promised"] is result["guarantee"]["promised"]
    assert asked[0]["calibration"] == result["calibration"]
    assert (asked[0]["class"], asked[0]["alpha"]) == (None, result["alpha"])
    assert asked[0]["wait_ms"] >= 0
    assert asked[0]["samples_ms"] > 0
    (done,) = [line for line in lines if line["event"] == "job_ended"]
    assert (done["key"], done["upscaler"], done["state"]) == ("anna", "fake", "succeeded")
    assert done["job"] == asked[1]["job"]
    assert 0 <= done["wait_s"] <= done["seconds"]
    for fact in ("promised", "calibration", "class", "alpha", "trusted"):
        assert done[fact] == asked[0][fact]
    assert [one["key"] for one in lines if one.get("path") == "/v1/admin/jobs"] == ["ops"]
    for secret in (result["id"], job.json()["id"], "client-key"):
        assert secret not in text
        assert secret == "client-key" or f"{secret[:10]}*" in text


def test_what_was_promised(start, capsys):
    """The promise is counted, and a refused request names its type in the log."""
    with logging_as("json"):
        client = start()
        assert post(client).status_code == 200
        assert post(client, mask="none").status_code == 200
        check_problem(post(client, alpha="much"), "bad-alpha")
    found = parsed_metrics(client.get("/metrics").text)
    assert found["trustscale_answers_total", "", "yes", "fake"] == 1
    assert found["trustscale_answers_total", "", "no", "fake"] == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    asked = [line for line in lines if line["event"] == "request" and line["method"] == "POST"]
    assert [one.get("promised") for one in asked] == [True, False, None]
    assert [one.get("type") for one in asked] == [None, None, "bad-alpha"]


def test_metrics_of_a_gateway(start):
    """/metrics names the release, and has the wait as a histogram."""
    client = start()
    assert post(client).status_code == 200
    found = parsed_metrics(client.get("/metrics").text)
    assert found["trustscale_build_info", trustscale_server.__version__] == 1
    assert found["trustscale_slot_wait_seconds_count",] == 1


async def test_money():
    """Every call counts at its price, as a provider bills it, also a failed one."""
    upscaler = guarded(Inner([Busy("busy")]), price_per_call=0.25)
    await upscaler.generate(SOURCE, [1])
    found = numbers_of(upscaler.metrics)
    assert found["trustscale_upstream_price_total", "inner"] == 0.5


def test_probes_are_not_logged(start, capsys):
    """What asks every few seconds fills no log."""
    with logging_as("json"):
        client = start()
        for path in ("/healthz", "/readyz", "/metrics", "/v1/upscalers"):
            assert client.get(path).status_code == 200
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["path"] for one in lines if one["event"] == "request"] == ["/v1/upscalers"]
