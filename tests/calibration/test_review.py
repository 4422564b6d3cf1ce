"""What a calibration keeps of whole pictures, to decide which may go out without a look."""

import pytest

from tests.factories import calibration_of
from tests.fakes import FakeUpscaler
from trustscale_server.conformal.review import TOLERANCES


async def test_what_is_kept_of_a_pair():
    """The shares of the whole picture, also outside every mask, and its σ."""
    calibration = await calibration_of(FakeUpscaler(), 5)
    for info, quantiles in zip(
        calibration.manifest.pairs, calibration.sigma_quantiles, strict=True
    ):
        assert len(info.off) == len(TOLERANCES)
        assert list(info.off) == sorted(info.off, reverse=True)
        assert info.off[0] > 0
        assert info.high_sigma[1] == pytest.approx(quantiles[-1], rel=0.01)
        assert info.high_sigma[0] == pytest.approx(quantiles[95], rel=0.05)
