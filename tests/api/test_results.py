"""Stored results: again, for another α, and until they expire."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from obstore.exceptions import GenericError

from app.stores.base import StoreUnavailable
from app.stores.objects import open_blobs
from tests.api.gateway import aside, check_problem, ended, post, text_chunks
from tests.factories import changed
from tests.waiting import block_until


@pytest.fixture
def answer(client):
    return post(client, alpha=0.1, seed=3).json()


class TestAgain:
    def test_the_document(self, client, answer):
        """GET of the result is the answer of the POST."""
        again = client.get(answer["links"]["self"])
        assert again.headers["content-type"] == "application/json"
        assert again.json() == answer

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

    def test_its_own_alpha(self, client, answer):
        """`?alpha=` of the result itself gives the same file as without."""
        for part in ("mask", "overlay"):
            plain = client.get(answer["links"][part]).content
            assert client.get(f"{answer['links'][part]}?alpha=0.10").content == plain

    def test_a_new_active_calibration_leaves_old_results_alone(self, start, calibration):
        """A result keeps the calibration that it was made with."""
        client = start()
        answer = post(client, alpha=0.1).json()
        before = client.get(f"{answer['links']['mask']}?alpha=0.09").content
        newer = changed(calibration, name="newer")
        client = start(calibrations=(newer,), run_jobs=False)
        assert post(client).json()["calibration"] == newer.id != calibration.id
        assert client.get(f"{answer['links']['mask']}?alpha=0.09").content == before


class TestProblems:
    def test_an_alpha_that_is_none(self, client, answer):
        """The α of a stored result is checked like that of a request."""
        for alpha in ("-1", "abc", "nan", "inf", "-inf", "1e999"):
            for part in ("mask", "overlay"):
                refused = client.get(answer["links"][part], params={"alpha": alpha})
                assert "alpha" in check_problem(refused, "bad-alpha")["detail"]

    def test_unknown_results(self, client):
        """An id that does not exist is not found, whichever part; none leads outside."""
        for path in ("", "/image.png", "/mask.png", "/trust.png", "/overlay.png"):
            check_problem(client.get(f"/v1/results/res-unknown{path}"), "not-found")
        for result in ("..", "%2e%2e", "a%2Fb", "res-%00", "x" * 500):
            assert client.get(f"/v1/results/{result}/image.png").status_code in {404, 422}

    def test_files_for_ourselves_are_not_served(self, client, answer):
        """What is stored beside the files of the answer is not public."""
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

    def test_uploads(self, start, s3_url):
        """Jobs take their uploads from there, and leave none behind."""
        client = start(blobs=s3_url)
        job = post(client, headers={"Prefer": "respond-async"}).headers["location"]
        assert ended(client, job)["state"] == "succeeded"
        blobs = open_blobs(s3_url, Path("/nowhere"))
        block_until(lambda: not aside(blobs.names(job.rpartition("/")[2])))

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
