"""What the monitor says of the last inputs, by calibration images that look like them."""

import numpy as np
import pytest

from harness.factories import with_arrays
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.calibration.ways import losses_by_class
from trustscale_server.conformal.adapted import MIN_UPLOADS
from trustscale_server.monitoring.report import AlikeSummary
from trustscale_server.monitoring.state import MonitorState


@pytest.fixture(scope="module")
def calibration():
    return shipped_calibration("span-x4-f32")


def inputs(calibration, way, count=16):
    """A state after inputs that look like these of the calibration."""
    whole = calibration.everything
    places = [k for k, pair in enumerate(whole.infos) if pair.variant == way][:count]
    return MonitorState(described=whole.arrays.described[places].astype(np.float16))


def test_harder_inputs_suggest_a_larger_loss(calibration):
    """Between what the easiest and the hardest images lose, and said to be worth fewer scenes."""
    hard, easy = (
        AlikeSummary.from_state(calibration, inputs(calibration, way))
        for way in ("denoised", "drawn")
    )
    losses = losses_by_class(calibration.everything)
    assert hard.usual == easy.usual == pytest.approx(np.nanmean(losses), abs=1e-4)
    assert np.nanmin(losses) <= easy.loss < hard.usual < hard.loss <= np.nanmax(losses)
    assert hard.pictures == 16
    assert 1 < hard.scenes < calibration.n


def test_when_nothing_is_known(calibration):
    """Of too few inputs, of inputs that nothing describes, and of such calibration images."""
    few = inputs(calibration, "soft", MIN_UPLOADS - 1)
    enough = inputs(calibration, "soft", MIN_UPLOADS)
    assert AlikeSummary.from_state(calibration, few) is None
    assert AlikeSummary.from_state(calibration, MonitorState()) is None
    assert AlikeSummary.from_state(calibration, enough).pictures == MIN_UPLOADS
    assert AlikeSummary.from_state(with_arrays(calibration, described=None), enough) is None
