"""Stored results: again, for another α, until they expire; and what is removed by itself."""

import os
import time

import httpx
import pytest
from obstore.exceptions import GenericError

from app.main import Timings
from app.stores.base import StoreUnavailable
from tests.api.admin import Admin, truth_files
from tests.api.gateway import aside, check_problem, gateway, post, running, text_chunks
from tests.factories import changed
from tests.fakes import FakeUpscaler
from tests.waiting import block_until, until


@pytest.fixture
def answer(client):
    return post(client, alpha=0.1, seed=3).json()


class TestAgain:
    @pytest.mark.parametrize("alpha", ["0.05", "0.12", "3"])
    def test_another_alpha_needs_no_generation(self, client, upscaler, answer, alpha):
        """`?alpha=` gives the very file of a fresh request with that α, without any sample."""
        fresh, calls = post(client, alpha=alpha, seed=3).json(), len(upscaler.calls)
        for part in ("mask", "overlay"):
            changed = client.get(answer["links"][part], params={"alpha": alpha})
            assert changed.headers["content-type"] == "image/png"
            assert client.get(fresh["links"][part]).content == changed.content
            assert text_chunks(changed.content)["trustscale:alpha"] == repr(float(alpha))
        assert len(upscaler.calls) == calls

    def test_a_new_active_calibration_leaves_old_results_alone(self, start, calibration):
        client = start()
        answer = post(client, alpha=0.1).json()
        before = client.get(f"{answer['links']['mask']}?alpha=0.09").content
        newer = changed(calibration, name="newer")
        client = start(calibrations=(newer,), run_jobs=False)
        assert post(client).json()["calibration"] == newer.id != calibration.id
        assert client.get(f"{answer['links']['mask']}?alpha=0.09").content == before


class TestProblems:
    def test_an_alpha_that_is_none(self, client, answer):
        for alpha in ("-1", "abc", "nan", "inf", "-inf", "1e999"):
            for part in ("mask", "overlay"):
                refused = client.get(answer["links"][part], params={"alpha": alpha})
                assert "alpha" in check_problem(refused, "bad-alpha")["detail"]

    def test_unknown_results(self, client):
        for path in ("", "/image.png", "/mask.png", "/trust.png", "/overlay.png"):
            check_problem(client.get(f"/v1/results/res-unknown{path}"), "not-found")
        for result in ("..", "%2e%2e", "a%2Fb", "res-%00", "x" * 500):
            assert client.get(f"/v1/results/{result}/image.png").status_code in {404, 422}

    def test_files_for_ourselves_are_not_served(self, client, answer):
        assert client.get(f"{answer['links']['self']}/input.digest").status_code == 404

    def test_elsewhere_and_later(self, start, monkeypatch):
        """Another process on the same folder serves it too; after `result_ttl_s` nobody does."""
        client = start(result_ttl_s=3600)
        links = post(client).json()["links"]
        again = start(run_jobs=False)
        paths = (*links.values(), f"{links['mask']}?alpha=0.2")
        assert {again.get(path).status_code for path in paths} == {200}
        later = time.time() + 3600
        monkeypatch.setattr(time, "time", lambda: later)
        for path in paths:
            check_problem(client.get(path), "not-found")


@pytest.mark.servers
class TestObjectStore:
    def test_links(self, start, s3_url):
        """A file is fetched from the object store; pages, and what is drawn, get it from here."""
        client = start(blobs=s3_url)
        links = post(client, alpha=0.1).json()["links"]
        for part in ("image", "mask", "trust"):
            told = client.get(links[part], follow_redirects=False)
            assert (told.status_code, told.headers["cache-control"]) == (307, "no-store")
            found = httpx.get(told.headers["location"], trust_env=False)
            page = client.get(links[part], headers={"Sec-Fetch-Site": "same-origin"})
            assert (page.status_code, page.content) == (200, found.content)
            assert found.headers["content-type"] == page.headers["content-type"] == "image/png"
        assert client.get(links["overlay"], follow_redirects=False).status_code == 200
        plain = start(blobs=s3_url, presigned_links=False, run_jobs=False)
        assert plain.get(links["image"], follow_redirects=False).status_code == 200

    def test_it_is_away(self, start, s3_url, monkeypatch):
        """While the object store does not answer, requests are 503, without its secrets."""
        client = start(blobs=s3_url)
        store = client.app_state["trustscale"].stores.blobs

        async def away(*_, **__):
            raise GenericError("Generic S3 error: token=secret")

        monkeypatch.setattr("obstore.put_async", away)
        told = check_problem(post(client), "overloaded")
        assert told["detail"] == "The blob store cannot be used now: GenericError."
        with pytest.raises(StoreUnavailable):
            aside(store.check())


OFTEN = Timings(sweep_s=0.05, orphans_s=0.0)


def left(folder):
    return {path.name for path in (folder / "blobs").glob("job-*")}


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
