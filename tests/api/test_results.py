"""Stored results: again, for another α, and until they expire."""

from __future__ import annotations

import time

import pytest

from tests.api.gateway import check_problem, post, text_chunks
from tests.factories import changed


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
        """σ is stored, but not public."""
        assert client.get(f"{answer['links']['self']}/sigma.f32").status_code == 404
        assert client.get(f"{answer['links']['self']}/sigma.png").status_code in {404, 422}

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
