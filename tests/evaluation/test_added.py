"""What a model adds, and how much of it is not in the truth."""

import numpy as np
import pytest
from scipy import ndimage

from harness.factories import sharp
from harness.fakes import FakeUpscaler
from tests.evaluation.conftest import QUICK, evaluated, photographs, plain
from trustscale_evaluation import report
from trustscale_evaluation.added import invented_of_picture
from trustscale_server.pixels.lab import normalised_lab
from trustscale_server.sampling.enlarged import Enlarged

TRUTH = sharp(side=96)
LOW = np.ascontiguousarray(TRUTH[::2, ::2])
PLAIN = Enlarged(LOW, 2)[:]


def noisy(image, deviation):
    noise = np.random.default_rng(1).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_by_definition():
    """‖a − g t‖²/‖a‖² in windows of a Gaussian of 4 px, by scipy."""
    made = noisy(TRUTH, 12)
    u, a, t = (normalised_lab(one)[0].astype(float) for one in (PLAIN, made, TRUTH))
    a, t = a - u, t - u
    aa, at, tt = (ndimage.gaussian_filter(one, 4) for one in (a * a, a * t, t * t))
    g = np.clip(at / np.maximum(tt, 1e-12), 0, 1)
    expected = (aa - 2 * g * at + g * g * tt).sum() / aa.sum()
    assert invented_of_picture(LOW, made, TRUTH) == pytest.approx(expected, rel=1e-3)


def test_the_ends():
    """Nothing of a perfect model is invented, almost all of noise, and nothing was added by U."""
    assert invented_of_picture(LOW, TRUTH, TRUTH) == pytest.approx(0, abs=1e-5)
    assert invented_of_picture(LOW, noisy(PLAIN, 12), TRUTH) > 0.7
    assert invented_of_picture(LOW, PLAIN, TRUTH) is None


def test_the_report_says_it(tmp_path):
    photos = photographs(tmp_path / "photos", 12, side=64, crops=1)
    found = evaluated(photos, FakeUpscaler(), settings=[plain()], **QUICK)
    document = report.write(found, tmp_path / "out")
    share = document["added"][0]["not_in_the_truth"]
    assert 0 < share <= 1
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert f"{share:.0%} of the detail that fake adds is not in the truth" in page


def test_the_report_says_how_colours_agree(tmp_path):
    """How the upscaler's own pictures agree with an upload, where any were made for this run."""
    photos = photographs(tmp_path / "photos", 12, side=64, crops=1)
    first, from_cache = (
        evaluated(photos, FakeUpscaler(), settings=[plain()], **QUICK) for _ in range(2)
    )
    (own,) = report.write(first, tmp_path / "out")["upscalers"]
    assert 10 < own["agreement"]["db"] < own["agreement"]["aligned_db"]
    assert own["seam"] > 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    sentence = f"agree with the upload to {own['agreement']['db']:.0f} dB"
    assert f"fake, of one upload, before it is aligned: reduced, its pictures {sentence}" in page
    assert f"differ by {own['seam']:.1f} of 100 steps" in page
    (nothing,) = report.write(from_cache, tmp_path / "again")["upscalers"]
    assert nothing["agreement"] is nothing["seam"] is None
