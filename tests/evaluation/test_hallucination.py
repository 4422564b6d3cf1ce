"""What opensr-test says of Ŷ is counted where the mask is and where it is not."""

import numpy as np
import pytest
from PIL import Image

from app.evaluation import report
from app.evaluation.hallucination import KINDS, classified
from tests.evaluation.conftest import QUICK, evaluated, photographs, plain
from tests.factories import sharp
from tests.fakes import FakeUpscaler


def enlarged(image, size):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("side", "scale", "counts"), [(96, 2, [170, 829, 265]), (128, 4, [348, 2044, 820])]
)
def test_as_the_package_counts(side, scale, counts):
    """Improvements, omissions and hallucinations, as opensr-test 1.3 counted them here."""
    truth = sharp(side=side)
    low = enlarged(truth, (side // scale, side // scale))
    made = enlarged(low, (side, side)).astype(int) + 20 * (truth[::-1] > 128)
    kinds = classified(low, np.clip(made, 0, 255).astype(np.uint8), truth)
    assert kinds.shape == (side - 32, side - 32)
    assert [np.sum(kinds == kind) for kind in range(3)] == pytest.approx(counts, abs=3)


def test_a_scale_that_does_not_divide_the_border():
    truth = sharp(side=96)
    kinds = classified(enlarged(truth, (32, 32)), truth, truth)
    assert kinds.shape == (64, 64)
    assert np.nanmax(kinds) == KINDS.index("improvement")


def test_the_report_has_both_sides(tmp_path):
    photos = photographs(tmp_path / "photos", 12, side=64, crops=1)
    found = evaluated(photos, FakeUpscaler(), settings=[plain()], with_opensr=True, **QUICK)
    inside, outside = report.write(found, tmp_path / "out")["opensr"]
    assert (inside["where"], outside["where"]) == ("inside the mask", "outside")
    assert inside["pixels"] + outside["pixels"] > 0
    for row in (inside, outside):
        if row["pixels"]:
            assert sum(row[kind] for kind in KINDS) == pytest.approx(1)
    assert (tmp_path / "out" / "opensr.csv").is_file()
    assert "Hallucination inside the mask" in (tmp_path / "out" / "report.html").read_text()
