"""What opensr-test says of Ŷ is counted where the mask is and where it is not."""

import numpy as np
import opensr_test
import pytest
import torch
from PIL import Image

from app.evaluation import report
from app.evaluation.hallucination import KINDS, classified
from tests.evaluation.conftest import QUICK, evaluated, photographs, plain
from tests.factories import sharp
from tests.fakes import FakeUpscaler

pytestmark = pytest.mark.filterwarnings("ignore")  # of the package and what it is made of


def enlarged(image, size):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def test_as_the_package_counts():
    """The shares of all pixels are its own, by its definition in per cent."""
    truth = sharp(side=96)
    low = enlarged(truth, (48, 48))
    made = np.clip(enlarged(low, (96, 96)).astype(int) + 20 * (truth[::-1] > 128), 0, 255)
    kinds = classified(low, made.astype(np.uint8), truth)
    assert kinds.shape == (64, 64)
    metrics = opensr_test.Metrics(correctness_norm="percent", harm_apply_spatial=False)
    tensors = (torch.tensor(i.transpose(2, 0, 1) / 255).float() for i in (low, made, truth))
    told = metrics.compute(*tensors)
    shares = [np.mean(kinds[~np.isnan(kinds)] == kind) for kind in range(3)]
    assert shares[KINDS.index("hallucination")] == pytest.approx(told["ha_metric"], abs=1e-6)
    assert shares[KINDS.index("omission")] == pytest.approx(told["om_metric"], abs=1e-6)
    assert shares[KINDS.index("improvement")] == pytest.approx(told["im_metric"], abs=1e-6)


def test_the_report_has_both_sides(tmp_path):
    """Every pixel with detail is counted once, inside the mask or outside."""
    photos = photographs(tmp_path / "photos", 12, side=64, crops=1)
    found = evaluated(photos, FakeUpscaler(), settings=[plain()], with_opensr=True, **QUICK)
    report.write(found, tmp_path / "out")
    inside, outside = report.summary(found)["opensr"]
    assert (inside["where"], outside["where"]) == ("inside the mask", "outside")
    assert inside["pixels"] + outside["pixels"] > 0
    for row in (inside, outside):
        if row["pixels"]:
            assert sum(row[kind] for kind in KINDS) == pytest.approx(1)
    assert (tmp_path / "out" / "opensr.csv").is_file()
    assert "Hallucination inside the mask" in (tmp_path / "out" / "report.html").read_text()
