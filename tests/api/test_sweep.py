"""What is removed by itself: uploads of ended jobs, the jobs later, and nothing else."""

from __future__ import annotations

import os
import time
from collections import Counter

from app.main import Timings
from tests.api.admin import Admin, truth_files
from tests.api.gateway import check_problem, gateway, post, running
from tests.fakes import FakeUpscaler
from tests.waiting import block_until, until

OFTEN = Timings(sweep_s=0.05, orphans_s=0.0)


def left(folder) -> set[str]:
    """The jobs whose uploads are among the blobs."""
    return {path.name for path in (folder / "blobs").glob("job-*")}


def counted(method, calls: Counter):
    """The method, whose calls are counted."""

    async def count(*arguments):
        calls["all"] += 1
        return await method(*arguments)

    return count


def test_ended_jobs(start, tmp_path):
    """Once `job_ttl_s` is over, an ended job and its files are gone; its result stays."""
    admin = Admin(start(job_ttl_s=3600))
    response = admin.post_files(truth_files(2))
    made = admin.made(response)
    job = response.headers["location"]
    start(job_ttl_s=0.1, run_jobs=False, timings=OFTEN)
    block_until(lambda: admin.client.get(job).status_code == 404)
    block_until(lambda: not left(tmp_path))
    assert admin.get(f"/{made['id']}")["n"] == 2
    check_problem(admin.send("GET", f"/{response.json()['id']}"), "not-found")


async def test_uploads(tmp_path, calibration):
    """The upload of an upscaling goes with the end of its job: done, stopped, or never begun."""
    upscaler = FakeUpscaler()
    app = gateway(tmp_path, upscaler, calibrations=[calibration], max_in_flight=1)

    async with running(app) as served:
        client = served.client

        async def begun():
            return (await served.post(headers={"Prefer": "respond-async"})).json()["id"]

        done = await begun()
        await until(lambda: not left(tmp_path))
        assert (await client.get(f"/v1/jobs/{done}")).json()["state"] == "succeeded"
        upscaler.seconds, calls = 600, len(upscaler.calls)
        stopped = await begun()
        await until(lambda: len(upscaler.calls) > calls)
        waiting = await begun()
        assert left(tmp_path) == {stopped, waiting}
        for job in (waiting, stopped):
            await client.delete(f"/v1/jobs/{job}")
        await until(lambda: not left(tmp_path))


def test_uploads_of_a_cancelled_calibration(start, tmp_path):
    """Whoever cancels a calibration has its pairs removed."""
    upscaler = FakeUpscaler(seconds=600)
    admin = Admin(start(upscaler))
    job = admin.post_files(truth_files(2)).headers["location"]
    block_until(lambda: upscaler.calls)
    assert left(tmp_path)
    admin.client.delete(job)
    block_until(lambda: not left(tmp_path))


def test_other_jobs(start, monkeypatch):
    """Jobs that run or await labels are kept however old they are."""
    upscaler = FakeUpscaler()
    admin = Admin(start(upscaler, job_ttl_s=0.01, timings=OFTEN))
    jobs, rounds = admin.client.app_state["trustscale"].stores.jobs, Counter()
    monkeypatch.setattr(jobs, "expire", counted(jobs.expire, rounds))
    waiting = admin.ended(admin.post_files(truth_files(1), fidelity={"metric": "semantic"}))
    upscaler.seconds, calls = 600, len(upscaler.calls)
    hanging = post(admin.client, headers={"Prefer": "respond-async"}).headers["location"]
    block_until(lambda: len(upscaler.calls) > calls)
    seen = rounds.total()
    block_until(lambda: rounds.total() > seen + 3)
    assert admin.client.get(hanging).json()["state"] == "running"
    assert admin.client.get(f"/v1/jobs/{waiting['id']}").json()["state"] == "awaiting_labels"
    assert len(admin.get(f"/{waiting['id']}/pairs")) == 1
    admin.client.delete(hanging)
    block_until(lambda: upscaler.cancelled)


def test_orphans(start, calibration, tmp_path):
    """Files of no job, result and calibration go after a day; younger ones may still get theirs."""
    day = 86400
    kept = {"job-arriving", "calibrate-1", f"canary-{calibration.id}", f"pictures-{calibration.id}"}
    kept |= {"check", "upload-young"}
    lost = {"job-lost", "canary-lost", "pictures-lost", "result-lost%3A0", "upload-old"}
    for name in kept | lost:
        age = day / 2 if name in {"job-arriving", "upload-young"} else 2 * day
        file = tmp_path / "blobs" / name / "image"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
        os.utime(file, (time.time() - age,) * 2)
    start(timings=OFTEN)
    block_until(lambda: {path.name for path in (tmp_path / "blobs").iterdir()} == kept)


def test_after_a_surprise(start, monkeypatch):
    """An error that nobody expected ends one round, not the sweeping."""
    results, rounds = start(timings=OFTEN).app_state["trustscale"].stores.results, Counter()

    async def broken():
        rounds["all"] += 1
        raise OverflowError("date value out of range")

    monkeypatch.setattr(results, "sweep", broken)
    block_until(lambda: rounds.total() > 2)


async def test_the_blobs_are_listed_seldom(serve, monkeypatch):
    """Results and jobs are swept again and again; the whole blobs is listed once in hours."""
    async with serve(timings=Timings(sweep_s=0.001)) as served:
        swept, listed = Counter(), Counter()
        jobs, blobs = served.state.stores.jobs, served.state.stores.blobs
        monkeypatch.setattr(jobs, "expire", counted(jobs.expire, swept))
        monkeypatch.setattr(blobs, "untouched", counted(blobs.untouched, listed))
        await until(lambda: swept.total() > 50)
        assert listed.total() <= 1
