"""Restoration over HTTP: scale 1 from the calibration to the mask; labels by the declared rule."""

from __future__ import annotations

import pytest

from app.images.degrade import Degradation, degrade
from tests.api.admin import Admin, truth_files
from tests.api.gateway import check_problem, pixels, post
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler

INPAINTING = {"inpaint": {"share": 0.2, "shape": "strokes"}}
SYNTHETIC = {"metric": "semantic", "labels": "synthetic"}


@pytest.fixture
def admin(start) -> Admin:
    """A gateway whose upscaler restores: its output is as large as its input."""
    return Admin(start(FakeUpscaler(scale=1), calibrations=()))


def test_from_truths_to_a_mask(admin):
    """A task is calibrated from truths alone, and serves an image with all its parts."""
    client = admin.client
    made = admin.create(truth_files(20), degradation=INPAINTING, activate=True)
    assert (made["pipeline"]["scale"], made["n"]) == (1, 20)
    damaged = degrade(photo(99, 48, 48), 1, Degradation(**INPAINTING), 7)
    result = post(client, encoded(damaged), alpha=0.5).json()
    assert (result["scale"], result["width"], result["height"]) == (1, 48, 48)
    for part in ("image", "mask", "trust"):
        assert pixels(client.get(result["links"][part]).content).shape[:2] == (48, 48)
    assert 0 < result["trusted_fraction"] <= 1
    assert result["guarantee"]["applicability"] == "exact"
    made_by = result["guarantee"]["voids"][0]
    assert "reduction" not in made_by
    assert "(made by " in made_by


def test_pairs_with_holes_of_their_own(admin):
    """Inputs may come with their holes: X is sent as it is, and must have the size of Y."""
    files = truth_files(2)
    for name in list(files):
        damaged = pixels(files[name]).copy()
        damaged[10:20, 5:30] = [255, 0, 255]
        files[name.replace("y/", "x/")] = encoded(damaged)
    assert admin.create(files)["degradation"] is None
    files["x/000.png"] = encoded(photo(0, 24, 24))
    problem = check_problem(admin.post_files(files), "bad-pairs")
    assert problem["items"][0]["reason"].startswith("y is 48×48, but 1× the size of x is 24×24")


def test_synthetic_labels(admin):
    """The rule labels, so the job ends by itself; it is part of the record and of the promise."""
    rule = {"structure": 0.1, "color": 0.02}
    fidelity = {**SYNTHETIC, "annotator": rule}
    made = admin.create(truth_files(20), fidelity=fidelity, activate=True)
    assert (made["n"], made["min_alpha"]) == (20, 1 / 21)
    recorded = made["pipeline"]["fidelity"]
    assert recorded.items() >= {**SYNTHETIC, "bound": 1}.items()
    author = {"synthetic": True, "name": "trustscale-annotator", "version": 1}
    assert recorded["annotator"].items() >= {**author, **rule}.items()
    guarantee = post(admin.client, encoded(photo(99, 48, 48)), alpha=0.3).json()["guarantee"]
    assert "synthetic annotator" in guarantee["statement"]
    assert any("synthetic annotator" in reason for reason in guarantee["voids"])
