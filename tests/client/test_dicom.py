"""The recipe of docs/dicom.md, on a slice of a computed tomography that comes with pydicom."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from tests.api.gateway import gateway
from tests.factories import calibration_of
from tests.fakes import FakeUpscaler
from tests.live import serving

PAGE = (Path(__file__).parents[2] / "docs/dicom.md").read_text("utf-8")


def test_the_recipe(tmp_path, monkeypatch):
    """The mask is a segmentation of the upscaled slice, which lies where the slice lay."""
    (recipe,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "slice.dcm")
    monkeypatch.chdir(tmp_path)
    upscaler = FakeUpscaler()
    calibration = asyncio.run(calibration_of(upscaler))
    found: dict[str, object] = {}
    with serving(gateway(tmp_path, upscaler, calibrations=[calibration])) as address:
        exec(recipe.replace("http://127.0.0.1:8000", f"http://{address}"), found)
    source, large = (pydicom.dcmread(name) for name in ("slice.dcm", "large.dcm"))
    segmentation = highdicom.seg.segread("trusted.dcm")
    mask = segmentation.get_pixels_by_source_instance([large.SOPInstanceUID])
    assert (mask.reshape(256, 256) == found["result"].mask).all()
    assert 0 < mask.mean() < 1
    # The corner of the image lies where it lay, and so does every grey value.
    corners = [
        np.array(one.ImagePositionPatient[:2], float) - np.array(one.PixelSpacing, float) / 2
        for one in (source, large)
    ]
    assert corners[0] == pytest.approx(corners[1], abs=1e-4)
    values = [pydicom.pixels.apply_modality_lut(one.pixel_array, one) for one in (source, large)]
    assert np.median(np.abs(values[1][::2, ::2] - values[0])) < (values[0].max() / 50)
