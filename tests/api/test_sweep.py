"""What is removed by itself: ended jobs with their uploads, and nothing else."""

from __future__ import annotations

import asyncio
import os
import time

import app.main
from tests.api.admin import Admin, truth_files
from tests.api.gateway import aside, check_problem, post, until
from tests.fakes import FakeUpscaler


async def _gone(client, path: str) -> None:
    async with asyncio.timeout(5):
        while client.get(path).status_code != 404:  # noqa: ASYNC110 - the sweep has no event
            await asyncio.sleep(0.05)


def test_ended_jobs(start, tmp_path, monkeypatch):
    """Once `job_ttl_s` is over, an ended job and its spooled files are gone; its result stays."""
    monkeypatch.setattr(app.main, "_SWEEP_SECONDS", 0.1)
    admin = Admin(start(job_ttl_s=0.5))
    response = admin.post_files(truth_files(2))
    made = admin.made(response)
    job = response.headers["location"]
    aside(_gone(admin.client, job))
    aside(until(lambda: not list((tmp_path / "spool").glob("job-*"))))
    assert admin.get(f"/{made['id']}")["n"] == 2
    check_problem(admin.send("GET", f"/{response.json()['id']}"), "not-found")


def test_other_jobs(start, tmp_path, monkeypatch):
    """Jobs that run or await labels are kept however old they are."""
    monkeypatch.setattr(app.main, "_SWEEP_SECONDS", 0.1)
    upscaler = FakeUpscaler()
    admin = Admin(start(upscaler, job_ttl_s=0.01))
    waiting = admin.ended(admin.post_files(truth_files(1), fidelity={"metric": "semantic"}))
    upscaler.seconds = 1.0
    running = post(admin.client, headers={"Prefer": "respond-async"}).headers["location"]
    aside(asyncio.sleep(0.5))
    assert admin.client.get(running).json()["state"] == "running"
    assert admin.client.get(f"/v1/jobs/{waiting['id']}").json()["state"] == "awaiting_labels"
    assert len(admin.get(f"/{waiting['id']}/pairs")) == 1


def test_orphans(start, tmp_path, monkeypatch):
    """Uploads of no job, which a crash left, go after a day; younger ones may still get theirs."""
    monkeypatch.setattr(app.main, "_SWEEP_SECONDS", 0.1)
    day = 86400
    for name, age in (("job-lost", 2 * day), ("job-arriving", day / 2), ("calibrate-1", 2 * day)):
        folder = tmp_path / "spool" / name
        folder.mkdir(parents=True)
        (folder / "image").write_bytes(b"x")
        os.utime(folder, (time.time() - age,) * 2)
    start(job_ttl_s=1.0)
    left = {"job-arriving", "calibrate-1"}
    aside(until(lambda: {path.name for path in (tmp_path / "spool").iterdir()} == left))


def test_after_a_surprise(start, tmp_path, monkeypatch):
    """An error that nobody expected ends one round, not the sweeping."""
    monkeypatch.setattr(app.main, "_SWEEP_SECONDS", 0.05)
    rounds = []

    async def broken(*_):
        rounds.append(1)
        raise OverflowError("date value out of range")

    monkeypatch.setattr(app.main, "remove_orphans", broken)
    start()
    aside(until(lambda: len(rounds) > 2))
