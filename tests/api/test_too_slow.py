"""Requests that cannot be done in time are told so before anything is generated."""

from __future__ import annotations

import pytest

from tests.api.gateway import IMAGE, check_problem, ended, post
from tests.fakes import FakeUpscaler

PIXELS, SAMPLES = 24 * 24, 4


@pytest.fixture
def upscaler():
    return FakeUpscaler()


@pytest.fixture
def client(start, upscaler):
    """A gateway whose upscaler takes a second for each line of the image, and may take 10 s."""
    client = start(upscaler, request_timeout_s=10)
    service = client.app_state["trustscale"].service
    service.throughput.note(upscaler, PIXELS, SAMPLES, 24)
    return client


def test_refused_with_ways_out(client, upscaler):
    """422 at once: the estimate, the deadline, and what would make it."""
    problem = check_problem(post(client), "too-slow")
    members = {name: problem[name] for name in ("estimate", "deadline", "prefer", "fit")}
    assert members == {"estimate": 24, "deadline": 10, "prefer": "respond-async", "fit": 13}
    assert "about 24 seconds" in problem["detail"]
    assert upscaler.calls == []
    assert post(client, fit=problem["fit"]).status_code == 200


def test_done_as_a_job(client):
    """Nobody waits for a job: it is accepted, and says what is expected of it."""
    accepted = post(client, headers={"Prefer": "respond-async"})
    job = accepted.json()
    assert (accepted.status_code, job["estimate_s"]) == (202, 24)
    assert (job["width"], job["height"]) == (48, 48)
    assert ended(client, accepted.headers["location"])["state"] == "succeeded"


def test_a_job_has_a_deadline_too(start, upscaler):
    """One that is longer than its deadline is refused as well; then only `fit` helps."""
    client = start(upscaler, job_timeout_s=10)
    client.app_state["trustscale"].service.throughput.note(upscaler, PIXELS, SAMPLES, 24)
    problem = check_problem(post(client, headers={"Prefer": "respond-async"}), "too-slow")
    assert (problem["fit"], "prefer" in problem) == (13, False)


def test_the_pace_is_told(client, upscaler):
    """GET /v1/upscalers has it, once it is known; every answer is a measurement."""
    [row] = client.get("/v1/upscalers").json()
    assert row["seconds_per_megapixel"] == pytest.approx(24e6 / PIXELS / SAMPLES)
    assert post(client, fit=10).status_code == 200
    [row] = client.get("/v1/upscalers").json()
    assert 0 < row["seconds_per_megapixel"] < 24e6 / PIXELS / SAMPLES


def test_nothing_is_refused_for_what_is_not_known(start, upscaler):
    """Before the first measurement a request is tried."""
    client = start(upscaler, request_timeout_s=10)
    assert client.get("/v1/upscalers").json()[0]["seconds_per_megapixel"] is None
    assert post(client, IMAGE).status_code == 200
