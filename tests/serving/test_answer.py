"""The guarantee in words and numbers, and everything a careful reader must know."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calibration.guarantee import GuaranteeSettings
from app.conformal.fidelity import LAB_BOUND, Settings, metric_names
from app.errors import BadAlpha
from app.serving.answer import check_alpha, guarantee, threshold_json, warnings_of
from tests.factories import calibration_of, changed
from tests.fakes import FakeUpscaler


@pytest.fixture(scope="module")
def calibration():
    """Twenty pairs of 48 x 48 pixels."""
    return asyncio.run(calibration_of(FakeUpscaler(), 20))


def with_fidelity(calibration, **fields):
    """The same calibration as if it had been made with another D."""
    pipeline = calibration.document["pipeline"]
    changes = {**pipeline, "fidelity": {**pipeline["fidelity"], **fields}}
    return changed(calibration, pipeline=changes)


class TestAlpha:
    @pytest.mark.parametrize("alpha", [0, 0.2, 3])
    def test_numbers(self, alpha):
        """Any finite number from 0 on; without one, the calibration's α."""
        assert check_alpha(alpha, 9) == alpha
        assert check_alpha(None, 0.125) == 0.125

    @pytest.mark.parametrize("alpha", [-0.001, math.nan, math.inf, -math.inf])
    def test_anything_else(self, alpha):
        """The answer repeats what was sent."""
        with pytest.raises(BadAlpha) as caught:
            check_alpha(alpha, 0.1)
        assert str(alpha) in caught.value.detail


def test_infinite_thresholds_are_strings():
    """JSON has no infinities."""
    assert [threshold_json(t) for t in (-math.inf, math.inf, 0.5)] == ["-inf", "inf", 0.5]


class TestGuarantee:
    def test_the_statement(self, calibration):
        """It names n, metric, α, and that it is an expectation over images of the same law."""
        promise = guarantee(calibration, 0.125, 48, 48)
        for words in ("20 calibration images", "at most 0.125 in expectation", "same law"):
            assert words in promise.statement
        assert "window" not in promise.statement
        assert (promise.n, promise.bound, promise.alpha) == (20, LAB_BOUND, 0.125)

    def test_larger_outputs(self, calibration):
        """The statement is about any one window of the calibrated size."""
        promise = guarantee(calibration, 0.1, 480, 480)
        assert promise.applicability == "per_window"
        assert "any one window of 48×48 pixels" in promise.statement

    def test_what_voids_it(self, calibration):
        """Windows chosen by looking, global upscalers, and pairs that were taken out by hand."""
        whole, larger = (guarantee(calibration, 0.1, side, side).voids for side in (48, 480))
        assert len(larger) == len(whole) + 1
        assert any("a part of a larger image" in text for text in larger)
        skipped = [{"name": "a", "reason": "removed by key 1"}, {"name": "b", "reason": "damaged"}]
        fewer = guarantee(changed(calibration, skipped=skipped), 0.1, 48, 48).voids
        assert [text for text in fewer if text not in whole] == [
            "pairs that were taken out because of their errors (1 were taken out by hand)"
        ]

    def test_smaller_outputs(self, calibration):
        """The statement says that nothing is known."""
        promise = guarantee(calibration, 0.1, 8, 480)
        assert promise.applicability == "unknown"
        assert "not known" in promise.statement

    @pytest.mark.parametrize("metric", metric_names())
    def test_every_metric_is_worded(self, calibration, metric):
        """What is bounded is said for each metric, and only `pointwise` bounds the PSNR."""
        settings = Settings(metric=metric)
        promise = guarantee(with_fidelity(calibration, metric=metric), 0.1, 48, 48)
        assert f"the largest {settings.sentence} in the mask" in promise.statement
        assert (promise.error, promise.unit) == (settings.row.words, settings.row.unit)
        assert (promise.lab_psnr_lower_bound_db is not None) == (metric == "pointwise")
        larger = guarantee(with_fidelity(calibration, metric=metric), 0.1, 480, 480)
        assert larger.lab_psnr_lower_bound_db is None  # windows bound no root mean square of all

    def test_clipped_errors(self, calibration):
        """A bound below the metric's own is said, and promises no PSNR."""
        clipped = with_fidelity(calibration, metric="pointwise", bound=0.5)
        promise = guarantee(clipped, 0.1, 48, 48)
        assert "cut at 0.5" in promise.statement
        assert promise.bound == 0.5
        assert promise.lab_psnr_lower_bound_db is None

    def test_the_degradation_is_told(self, calibration):
        """What the inputs were made by is part of what would void the promise."""
        plain = {"grey": False, "blur": 0.0, "noise": 0.0, "jpeg": None}
        texts = {}
        for name, degradation in {
            "none": None,
            "plain": plain,
            "rich": {**plain, "noise": 3.0, "grey": True, "jpeg": 80},
        }.items():
            texts[name] = guarantee(
                changed(calibration, degradation=degradation), 0.1, 48, 48
            ).voids[0]
        assert "(" not in texts["none"]
        assert "(made by bicubic reduction by 2)" in texts["plain"]
        rich = "removal of the colour, bicubic reduction by 2, noise of 3 grey levels, JPEG of"
        assert f"(made by {rich} quality 80)" in texts["rich"]

    def test_synthetic_labels_are_told(self, calibration):
        """Who marked the differences is in the statement and in what would void it."""
        people = guarantee(with_fidelity(calibration, metric="semantic", bound=1), 0.1, 48, 48)
        rule = with_fidelity(calibration, metric="semantic", bound=1, labels="synthetic")
        promise = guarantee(rule, 0.1, 48, 48)
        assert "synthetic" not in people.statement + str(people.voids)
        assert guarantee(calibration, 0.1, 48, 48).labels is None
        assert (people.labels, guarantee(rule, 0.1, 48, 48).labels) == ("people", "synthetic")
        assert rule.head.metric == "semantic (synthetic labels)"
        assert "synthetic annotator trustscale-annotator version 1" in promise.statement
        assert "not a person" in promise.statement
        assert any("synthetic annotator" in reason for reason in promise.voids)

    @given(alpha=st.floats(0, allow_infinity=False, allow_nan=False))
    def test_any_alpha_can_be_said(self, calibration, alpha):
        """No α breaks the document, however small or large."""
        for metric in ("neighborhood", "pointwise"):
            made = with_fidelity(calibration, metric=metric)
            promise = guarantee(made, alpha, 48, 48)
            json.loads(promise.model_dump_json())
            texts = warnings(made, alpha)
            assert bool(texts) == (not made.curve.min_alpha <= alpha < LAB_BOUND)


def warnings(calibration, alpha=0.1, **changes):
    known = {"applicability": "exact", "typicality": 0.5, "notes": [], "lossless": True}
    return warnings_of(calibration, alpha, **{**known, **changes})


class TestWarnings:
    def test_none(self, calibration):
        """An ordinary answer has none."""
        assert warnings(calibration) == []

    def test_too_few_pairs(self, calibration):
        """The number of pairs that α needs is named: ⌈B/α − 1⌉."""
        (text,) = warnings(calibration, 0.05)
        assert "n = 20 pairs" in text
        assert "at least 39 pairs" in text

    def test_the_smallest_possible_alpha_is_fine(self, calibration):
        """B/(n+1) itself needs no warning."""
        assert warnings(calibration, calibration.curve.min_alpha) == []
        assert warnings(calibration, math.nextafter(calibration.curve.min_alpha, 0)) != []

    @pytest.mark.parametrize("alpha", [0, 5e-324, 1e-300, 1e-18])
    def test_no_number_of_pairs(self, calibration, alpha):
        """Near 0 no number is named."""
        (text,) = warnings(calibration, alpha)
        assert "no number of pairs" in text

    def test_everything_is_allowed(self, calibration):
        """α ≥ B promises nothing."""
        assert "the promise says nothing" in warnings(calibration, LAB_BOUND)[0]

    def test_each_circumstance(self, calibration):
        """Size, typicality, notes and lossy samples are told, each in a sentence."""
        texts = warnings(
            calibration,
            applicability="unknown",
            typicality=0.01,
            notes=["A note."],
            lossless=False,
        )
        assert len(texts) == 4
        assert texts[0] == "A note."
        assert all(text.endswith(".") for text in texts)


class TestHighProbability:
    @pytest.fixture
    def likely(self, calibration):
        """The same pairs under another guarantee."""
        return calibration.with_pairs(
            calibration.measured_pairs(),
            created_by="test",
            guarantee=GuaranteeSettings(kind="high_probability", delta=0.05),
        )

    def test_the_statement(self, likely):
        """It is about the draw of the calibration images, and names the probability."""
        promise = guarantee(likely, 0.5, 48, 48)
        assert (promise.kind, promise.delta) == ("high_probability", 0.05)
        for words in (
            "With probability at least 0.95 over the draw of the 20 calibration images",
            "the expected value, over new images, of the largest",
            "at most 0.5,",
            "independently from the same law",
        ):
            assert words in promise.statement
        assert "of this image" not in promise.statement
        assert any("independent draws" in void for void in promise.voids)

    def test_the_other_one_says_nothing_of_it(self, calibration):
        """An expectation has no δ and needs no independence."""
        promise = guarantee(calibration, 0.5, 48, 48)
        assert (promise.kind, promise.delta, promise.method) == ("expectation", None, None)
        assert not any("independent" in void for void in promise.voids)

    def test_too_few_pairs(self, likely):
        """The number of pairs is that of the test behind it, and called the least."""
        (text,) = warnings(likely, 0.1)
        assert "the least that can be held with probability 0.95" in text
        assert "B/(n+1)" not in text
        assert f"at least {likely.minimal_n(0.1)} pairs without any error" in text
        assert likely.minimal_n(0.1) == math.ceil(math.log(20) / -math.log1p(-0.1 / LAB_BOUND))

    @pytest.mark.parametrize("alpha", [0, 5e-324, 1e-300, 1e-18])
    def test_no_number_of_pairs(self, likely, alpha):
        """Near 0 no number is named."""
        (text,) = warnings(likely, alpha)
        assert "no number of pairs" in text

    def test_the_smallest_possible_alpha_is_fine(self, likely):
        """It needs no warning; anything below does."""
        assert warnings(likely, likely.curve.min_alpha) == []
        assert warnings(likely, math.nextafter(likely.curve.min_alpha, 0)) != []
