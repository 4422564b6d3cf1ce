"""SinSR in worker processes, a gateway in front of them, and what happens when they die."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.api.admin import Admin, truth_files
from tests.api.gateway import ADMIN_KEY, check_problem, pixels, post
from tests.factories import encoded, photo
from tests.numbers import parsed_metrics
from tests.servers import free_port
from tests.upscalers.remote.pictures import patiently
from tests.waiting import block_until
from tests.workers.fakes import Served

pytestmark = pytest.mark.slow

SAMPLES = 4
PAIRS = 10
MADE = "samples_total"  # since the worker's start


@pytest.fixture
def workers(data, tmp_path):
    """Two workers that are ready."""
    with Served(data, tmp_path) as one, Served(data, tmp_path) as two:
        for worker in (one, two):
            worker.wait_for(f"{worker.url}/v2/health/ready", "worker")
        yield one, two


@pytest.fixture
def client(workers, tmp_path):
    """A client of a gateway whose only upscaler is those workers; the model is not named."""
    urls = [worker.url for worker in workers]
    told = {"name": "sinsr", "kind": "worker", "urls": urls, "attempts": 2}
    settings = Settings(data_dir=tmp_path / "data", admin_keys=[ADMIN_KEY], upscalers=[told])
    with TestClient(create_app(settings, build=patiently), raise_server_exceptions=False) as client:
        yield client


def test_from_nothing_to_a_mask_and_through_deaths(workers, client):
    """Calibrate, upscale, get a mask; one worker's death is not noticed, the last one's is named.

    The worker that dies in the middle holds its part of the request: it is stopped before, and
    killed when the other has made its own part and waits for nobody.
    """
    image = encoded(photo(1000, 16, 16))
    check_problem(post(client, image), "no-calibration")

    made = Admin(client).create(
        truth_files(PAIRS, side=64), samples=SAMPLES, activate=True, name="tiny"
    )
    assert (made["n"], made["state"]) == (PAIRS, "active")
    assert all(worker.metric(MADE) >= PAIRS for worker in workers)

    first = post(client, image, seed=3)
    assert first.status_code == 200, first.text
    answer = first.json()
    assert (answer["width"], answer["height"], answer["calibration"]) == (64, 64, made["id"])
    parts = _parts(client, answer)
    assert parts["image"].shape == (64, 64, 3)
    assert parts["mask"].shape == (64, 64)
    assert set(np.unique(parts["mask"])) <= {0, 255}

    kept, dying = workers
    before = kept.metric(MADE)
    dying.send(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(post, client, image, seed=3)
        block_until(lambda: kept.metric(MADE) == before + SAMPLES // 2)
        assert not asked.done()
        dying.kill()
        again = asked.result(120)
    assert again.status_code == 200, again.text
    assert kept.metric(MADE) == before + SAMPLES
    for name, part in _parts(client, again.json()).items():
        assert np.array_equal(part, parts[name]), name

    kept.kill()
    problem = check_problem(post(client, image, seed=3), "upscaler-unavailable")
    assert "sinsr" in problem["detail"]


def test_from_zero(data, tmp_path):
    """A request waits for a worker that is started because it waits, as the metric says.

    The first one teaches the gateway the model; the second knows it, and waits as well.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    told = {"name": "sinsr", "kind": "worker", "urls": [url], "attempts": 2, "cold_start_s": 300}
    settings = Settings(data_dir=tmp_path / "data", upscalers=[told])
    image = encoded(photo(1000, 16, 16))
    with TestClient(create_app(settings)) as client, ThreadPoolExecutor(1) as thread:

        def load() -> float:
            found = parsed_metrics(client.get("/metrics").text)
            return found["trustscale_upstream_calls_open", "sinsr"]

        for _ in range(2):
            assert load() == 0
            asked = thread.submit(post, client, image, mask="none")
            block_until(lambda: load() == 1)
            with Served(data, tmp_path, port=port):
                answer = asked.result(240)
            assert answer.status_code == 200, answer.text
        assert load() == 0


def _parts(client, answer):
    """The files of an answer."""
    return {
        name: pixels(client.get(answer["links"][name]).content)
        for name in ("image", "mask", "trust")
    }
