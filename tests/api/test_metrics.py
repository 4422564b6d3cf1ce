"""Gauges that are read when /metrics is asked, and problems by type."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest

from app.api.gauges import observe_jobs
from app.errors import UpscalerUnavailable
from app.stores.base import JobState, JobStatus, StoreUnavailable
from app.telemetry.metrics import Metrics
from tests.api.gateway import post, shown
from tests.fakes import FakeUpscaler
from tests.numbers import numbers_of, parsed_metrics


def metrics(client) -> dict[tuple[str, ...], float]:
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


class TestRequests:
    def test_by_route_template(self, client):
        """Ids, unknown paths and strange methods never become labels."""
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

    def test_answers_and_refusals(self, client):
        """Each is counted once under its status, answers with what they say; none stays."""
        before = metrics(client)
        post(client)
        post(client, b"text")
        after = metrics(client)
        keys = [
            ("trustscale_trusted_fraction_count", "fake"),
            ("trustscale_typicality_count", "fake"),
            ("trustscale_sample_seconds_count", "fake"),
            ("trustscale_requests_total", "POST", "/v1/upscale", "200"),
            ("trustscale_requests_total", "POST", "/v1/upscale", "415"),
        ]
        assert [after[key] - before.get(key, 0) for key in keys] == [1] * len(keys)
        # The request that reads it, and no other.
        assert after["trustscale_requests_in_flight",] == 1


class TestSlots:
    async def test_taken_and_awaited(self, serve):
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


class TestJobs:
    def test_depth_of_the_queue(self):
        """Jobs are counted by kind and state, the oldest queued one is known, and none stays."""
        metrics, now = Metrics(), datetime.now(UTC)
        earlier = now - timedelta(hours=1)
        jobs = [("queued", now), ("queued", earlier), ("running", earlier - timedelta(hours=1))]
        unfinished = [
            JobStatus(id=str(k), kind="upscale", state=JobState(state), created_at=at)
            for k, (state, at) in enumerate(jobs)
        ]
        depth, oldest = "trustscale_jobs", "trustscale_jobs_oldest_queued_timestamp_seconds"
        observe_jobs(metrics, unfinished)
        found = numbers_of(metrics)
        assert (found[depth, "upscale", "queued"], found[depth, "upscale", "running"]) == (2, 1)
        assert found[depth, "calibration", "queued"] == 0
        assert found[oldest, "upscale"] == pytest.approx(earlier.timestamp())
        assert found[oldest, "calibration"] == 0
        observe_jobs(metrics, [])
        found = numbers_of(metrics)
        assert found[depth, "upscale", "queued"] == found[oldest, "upscale"] == 0


class TestStore:
    def test_one_that_is_away(self, start, monkeypatch):
        """The scrape is answered all the same, with what was last known, and says so."""
        client = start()
        assert metrics(client)["trustscale_store_up",] == 1

        async def away(_):
            raise StoreUnavailable("The store is away.")

        monkeypatch.setattr("app.stores.jobs.JobStore.unfinished", away)
        found = metrics(client)
        assert found["trustscale_store_up",] == 0
        assert found["trustscale_calibration_active", "fake"] == 1


class TestProblems:
    def test_each_is_counted_once_by_its_type(self, start):
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
