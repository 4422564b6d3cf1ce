"""Everything at once, on a real Redis: gateways, job workers, a kill, a switch and a way back."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from tests.api.admin import BASE, truth_files, zipped
from tests.api.gateway import IMAGE
from tests.fleet import Fleet
from tests.waiting import block_until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

PAIRS, SAMPLES, SLOTS = 8, 4, 2
FORCE = {"force": True}  # so few pairs trust nothing at the default α


def recalibrate(client: httpx.Client, count: int, first: int = 0) -> str:
    """The path of the job."""
    response = client.post(
        BASE,
        files={"archive": ("pairs.zip", zipped(truth_files(count, first=first)))},
        data={"config": f'{{"samples": {SAMPLES}, "degradation": {{}}}}'},
    )
    assert response.status_code == 202, response.text
    return response.headers["location"]


def finished(client: httpx.Client, job: str) -> dict:
    block_until(lambda: client.get(job).json()["state"] not in {"queued", "running"})
    return client.get(job).json()


def served_by(client: httpx.Client) -> str:
    """The calibration that an upscaling carries now."""
    answer = client.post("/v1/upscale", files={"image": ("a.png", IMAGE, "image/png")})
    assert answer.status_code == 200, answer.text
    return answer.json()["calibration"]


def test_recalibrate_kill_activate_and_roll_back(tmp_path, redis_url):
    """A killed worker costs its pairs in flight; a switch is seen by every gateway at once."""
    with Fleet(tmp_path, redis_url, seconds=0.15, slots=SLOTS) as fleet:
        workers = [fleet.worker(), fleet.worker()]
        first, second = fleet.gateway(), fleet.gateway()
        old = finished(first, recalibrate(first, 3, first=40))["result"]
        first.post(f"{old}/activate", json=FORCE).raise_for_status()
        assert f"{BASE}/{served_by(second)}" == old

        before = len(fleet.samples())
        fleet.shut.touch()
        job = recalibrate(first, PAIRS)
        block_until(lambda: len({process for process, _ in fleet.samples()[before:]}) == 2)
        fleet.shut.unlink()
        block_until(lambda: first.get(job).json()["progress"]["done"] >= 2)
        workers[0].kill()
        assert served_by(second) == old.rsplit("/", 1)[-1]
        ended = finished(second, job)
        assert (ended["state"], ended["progress"]["done"]) == ("succeeded", PAIRS)

        times = Counter(seed for _, seed in fleet.samples()[before:])
        asked = PAIRS * SAMPLES
        # An upscaling was served meanwhile, with samples of its own.
        assert asked <= sum(times.values()) <= asked + (SLOTS + 2) * SAMPLES

        new = ended["result"]
        done = first.post(f"{new}/activate", json=FORCE).json()
        assert f"{BASE}/{done['previous']}" == old
        assert f"{BASE}/{served_by(second)}" == new
        back = second.post(f"{BASE}/{done['previous']}/activate", json=FORCE).json()
        assert f"{BASE}/{back['previous']}" == new
        assert f"{BASE}/{served_by(first)}" == old
        assert len(first.get(BASE).json()) == 2
        check_results_of(first, second)


def check_results_of(first: httpx.Client, second: httpx.Client) -> None:
    """What one gateway made, or a job worker, every gateway answers."""
    files = {"image": ("a.png", IMAGE, "image/png")}
    links = first.post("/v1/upscale", files=files).json()["links"]
    accepted = second.post("/v1/upscale", files=files, headers={"Prefer": "respond-async"})
    job = finished(first, accepted.headers["location"])
    for link in (links["image"], links["mask"], f"{links['mask']}?alpha=0.2", job["result"]):
        answers = [client.get(link).raise_for_status().content for client in (first, second)]
        assert answers[0] == answers[1]
