"""The decision about a picture, by what a calibration knows of whole pictures."""

import asyncio
import re

import numpy as np
import pytest

from harness.factories import calibration_of, changed, made_of
from harness.fakes import FakeUpscaler
from tests.reading import LINES
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.reduction import pair_from_words
from trustscale_server.calibration.review_settings import ReviewSettings
from trustscale_server.conformal.review import TOLERANCES
from trustscale_server.sampling.sigma.words import ReadPage
from trustscale_server.serving.review import review_of

FULLY = {"why_not": None}


@pytest.fixture(scope="module")
def template():
    return asyncio.run(calibration_of(FakeUpscaler(), 2))


def known(template, *pictures, **pipeline):
    """A calibration of pictures (share that is off by more than .1, σ_high, largest σ)."""
    place = TOLERANCES.index(0.1)
    updates = [
        {
            "off": tuple(share if k == place else 0.0 for k in range(len(TOLERANCES))),
            "high_sigma": (high, largest),
        }
        for share, high, largest in pictures
    ]
    return made_of(template, updates, **pipeline)


def decided(calibration, high=0.3, largest=0.9, **about):
    return review_of(calibration.everything, (high, largest), **{**FULLY, **about})


class TestTheDecision:
    def test_by_hand(self, template):
        """It counts the bad pictures up to this one's σ_high, and the picture itself; n = 39."""
        bad = [(0.02, 0.1 * k, 1) for k in range(1, 9)]
        calibration = known(template, *bad, *[(0, 0, 1)] * 31)
        for high, p in ((0, 1 / 40), (0.05, 1 / 40), (0.15, 2 / 40), (0.25, 3 / 40), (9, 9 / 40)):
            found = decided(calibration, high)
            assert (found.p_value, found.n, found.reason) == (p, 39, None)
            assert found.needs_review == (p > 0.05)

    @pytest.mark.parametrize(("share", "is_bad"), [(0.01, False), (0.0101, True)])
    def test_more_than_the_share(self, template, share, is_bad):
        found = decided(known(template, *[(share, 0.1, 1)] * 20))
        assert found.p_value == (1 if is_bad else 1 / 21)
        assert "more than 1 % of its pixels are off by more than 0.1" in found.promise

    @pytest.mark.parametrize(("n", "accept"), [(18, False), (19, True)])
    def test_scenes(self, template, n, accept):
        """One picture of each counts; below 19 none is accepted, and the reason says so."""
        found = decided(known(template, *[(0, 0, 0)] * n))
        assert (found.needs_review, found.n) == (not accept, n)
        assert (found.reason is None) == accept
        crops = made_of(template, [{"scene": "one", "off": (0.0,) * 6, "high_sigma": (0, 0)}] * 99)
        assert decided(crops).n == 1

    def test_where_nothing_is_promised(self, template):
        """Such a picture needs a look, and p = 1 in a batch."""
        found = decided(known(template, *[(0, 0, 0)] * 30), why_not="It is a drawing.")
        assert (found.needs_review, found.p_value, found.reason) == (True, 1, "It is a drawing.")

    @pytest.mark.parametrize(
        ("settings", "error"),
        [({"fidelity": {"metric": "semantic"}}, "difference in meaning"),
         ({"fidelity": {"metric": "text"}, "indecision": {"estimator": "reading"}},
          "words that a text reader .* reads otherwise in the truth")],
    )  # fmt: skip
    def test_where_one_word_is_too_many(self, template, settings, error):
        """For labels any marked pixel is bad, and the largest σ decides; neither may be hidden."""
        pictures = [(0.0001, 0.0, 0.5)] * 20
        found = [decided(known(template, *pictures, **settings), 9, top) for top in (0.4, 0.5)]
        assert [one.p_value for one in found] == [1 / 21, 1]
        assert found[0].share == 0
        assert re.search(rf"it holds an error \({error}\)", found[0].promise)

    def test_settings(self, template):
        """τ, share and δ are the calibration's; without the pairs' numbers there is no decision."""
        pictures = known(template, *[(0.02, 0.1, 1)] * 30)
        for settings, p in (({"share": 0.05}, 1 / 31), ({"tolerance": 0.2}, 1 / 31), ({}, 1)):
            asked = ReviewSettings(**settings, delta=0.2)
            found = decided(changed(pictures, review=asked.model_dump()))
            assert (found.p_value, found.delta, found.needs_review) == (p, 0.2, p > 0.2)
        assert decided(made_of(template, [{"off": ()}] * 30)) is None

    def test_refused_settings(self):
        for settings in ({"tolerance": 0.11}, {"delta": 0}, {"share": 1}, {"other": 1}):
            with pytest.raises(ValueError, match=next(iter(settings)) + "|τ"):
                CalibrationConfig(review=settings)


@pytest.mark.parametrize(
    ("wrong", "share"), [([], 0), ([False, False], 0), ([False, True, False], 0.3334)]
)
def test_what_is_kept_of_words(template, wrong, share):
    """The share of all words that is wrong, trusted or not, whatever τ is, and σ of the picture."""
    sigma = np.full((48, 48), 0.3, np.float32)
    page = ReadPage(LINES[: len(wrong)], wrong, [], 2)
    info = pair_from_words(template.manifest.pairs[0], sigma, page, wrong).info
    assert info.off == (share,) * len(TOLERANCES)
    assert info.high_sigma == pytest.approx((0.3, 0.3), rel=0.01)


async def test_what_is_kept_of_a_pair():
    """The shares of the whole picture, also outside every mask, and its σ."""
    calibration = await calibration_of(FakeUpscaler(), 5)
    for info, quantiles in zip(
        calibration.manifest.pairs, calibration.arrays.sigma_quantiles, strict=True
    ):
        assert len(info.off) == len(TOLERANCES)
        assert list(info.off) == sorted(info.off, reverse=True)
        assert info.off[0] > 0
        assert info.high_sigma[1] == pytest.approx(quantiles[-1], rel=0.01)
        assert info.high_sigma[0] == pytest.approx(quantiles[95], rel=0.05)
