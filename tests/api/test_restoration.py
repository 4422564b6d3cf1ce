"""Restoration over HTTP: scale 1 from the calibration to the mask; labels by the declared rule."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from app.images.degrade import Degradation, degrade
from app.images.holes import holes_of
from tests.api.admin import Admin, label, truth_files
from tests.api.gateway import check_problem, pixels, post
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler

TASKS = {
    "denoising": {"noise": 20},
    "inpainting": {"inpaint": {"share": 0.2, "shape": "strokes"}},
}
SYNTHETIC = {"fidelity": {"metric": "semantic", "labels": "synthetic"}}


@pytest.fixture
def client(start):
    """A gateway whose upscaler restores: its output is as large as its input."""
    return start(FakeUpscaler(scale=1), calibrations=())


@pytest.fixture
def admin(client) -> Admin:
    return Admin(client)


class TestTasks:
    @pytest.mark.parametrize("task", TASKS)
    def test_from_pairs_to_a_mask(self, client, admin, task):
        """Every task calibrates from truths alone and serves an image with all its parts."""
        made = admin.create(truth_files(24), degradation=TASKS[task], activate=True)
        assert (made["pipeline"]["scale"], made["n"]) == (1, 24)
        damaged = degrade(photo(99, 48, 48), 1, Degradation(**TASKS[task]), 7)
        response = post(client, encoded(damaged), alpha=0.5, headers={"Accept": "application/zip"})
        assert response.status_code == 200, response.text
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            result = json.loads(archive.read("result.json"))
            shapes = {
                part: pixels(archive.read(f"{part}.png")).shape[:2]
                for part in ("image", "mask", "trust")
            }
        assert (result["scale"], result["width"], result["height"]) == (1, 48, 48)
        assert set(shapes.values()) == {(48, 48)}
        assert 0 < result["trusted_fraction"] <= 1
        assert result["guarantee"]["applicability"] == "exact"
        made_by = result["guarantee"]["voids"][0]
        assert "reduction" not in made_by
        assert "(made by " in made_by

    def test_pairs_with_holes_of_their_own(self, client, admin):
        """Inputs may come with their holes: X is sent as it is, and must have the size of Y."""
        files = truth_files(20)
        for name in list(files):
            damaged = pixels(files[name]).copy()
            damaged[10:20, 5:30] = [255, 0, 255]
            assert holes_of(damaged, "#ff00ff").sum() >= 250
            files[name.replace("y/", "x/")] = encoded(damaged)
        made = admin.create(files, activate=True)
        assert made["degradation"] is None
        files["x/000.png"] = encoded(photo(0, 24, 24))
        problem = check_problem(admin.post_files(files), "bad-pairs")
        assert problem["items"][0]["reason"].startswith("y is 48×48, but 1× the size of x is 24×24")


class TestSyntheticLabels:
    def test_nobody_is_waited_for(self, client, admin):
        """The rule labels, so the job ends by itself; the record says that it is synthetic."""
        made = admin.create(truth_files(24), **SYNTHETIC, activate=True)
        assert (made["n"], made["min_alpha"]) == (24, 1 / 25)
        recorded = made["pipeline"]["fidelity"]
        chosen = {"metric": "semantic", "labels": "synthetic", "bound": 1}
        assert recorded.items() >= chosen.items()
        author = {"synthetic": True, "name": "trustscale-annotator", "version": 1}
        assert recorded["annotator"].items() >= author.items()
        result = post(client, encoded(photo(99, 48, 48)), alpha=0.3).json()
        assert "synthetic annotator" in result["guarantee"]["statement"]
        assert any("synthetic annotator" in reason for reason in result["guarantee"]["voids"])

    def test_a_persons_labels_beside_it(self, client, admin):
        """Labels of people and labels of the rule are not mixed."""
        files = {**truth_files(2), "labels/000.png": label(differs=True)}
        problem = check_problem(admin.post_files(files, **SYNTHETIC), "bad-pairs")
        assert problem["items"] == [{"name": "000", "reason": "has a label"}]

    def test_the_rule_is_part_of_the_calibration(self, client, admin):
        """Other thresholds give another calibration, with the thresholds in it."""
        rule = {"structure": 0.1, "color": 0.02}
        fidelity = {**SYNTHETIC["fidelity"], "annotator": rule}
        made = admin.create(truth_files(6), fidelity=fidelity)
        assert made["pipeline"]["fidelity"]["annotator"].items() >= rule.items()
