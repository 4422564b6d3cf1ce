"""The guarantee in words and numbers, and everything a careful reader must know."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.factories import calibration_of, changed
from tests.fakes import FakeUpscaler
from trustscale_server.calibration.guarantee import HighProbability, Probability, rounded_up
from trustscale_server.conformal import LossCurve
from trustscale_server.conformal.fidelity import LAB_BOUND, METRICS, FidelitySettings
from trustscale_server.errors import BadRequest
from trustscale_server.images.compression import LOSSLESS, Compression
from trustscale_server.images.degrade import Degradation
from trustscale_server.images.facts import UPLOAD, InputFeatures
from trustscale_server.serving.promise import ApplicableCalibration, guarantee, warnings_of


@pytest.fixture(scope="module")
def calibration():
    return asyncio.run(calibration_of(FakeUpscaler(), 20))


def with_fidelity(calibration, **fields):
    """The same calibration as if it had been made with another D."""
    pipeline = calibration.document["pipeline"]
    changes = {**pipeline, "fidelity": {**pipeline["fidelity"], **fields}}
    return changed(calibration, pipeline=changes)


def promised(calibration, alpha=0.1, side=48, facts=None):
    return guarantee(ApplicableCalibration.of(calibration, None, facts, size=(side, side)), alpha)


def warnings(calibration, alpha=0.1, facts=None, **changes):
    known = {"size": (48, 48), "trusted": 0.5, "typicality": 0.5, "notes": [], "lossless": True}
    known |= changes
    subject = ApplicableCalibration.of(calibration, None, facts, size=known.pop("size"))
    return warnings_of(subject, alpha, **known)


class TestGuarantee:
    def test_the_statement(self, calibration):
        """It names n, metric, α, and that it is an expectation over images of the same law."""
        promise = promised(calibration, 0.125)
        for words in ("20 calibration images", "the expected value", "at most 0.125", "exchange"):
            assert words in promise.theorem
        assert "window" not in promise.theorem
        assert (promise.n, promise.bound, promise.alpha) == (20, LAB_BOUND, 0.125)
        assert (promise.kind, promise.delta) == ("expectation", None)
        assert promise.loss_clipped_at is None

    def test_other_outputs(self, calibration):
        """Of larger ones a random window is meant, so the mean over windows; else nothing is."""
        promise = promised(calibration, side=480)
        assert promise.applicability == "per_window"
        assert "a window of 48×48 pixels" in promise.theorem
        assert "placed at random, and approximately" in promise.theorem
        assert "the mean over its windows" in promise.theorem
        smaller = promised(calibration, side=8)
        assert smaller.applicability == "unknown"
        assert smaller.theorem.startswith("No promise")
        assert smaller.plain.startswith("No promise: this output is of another size")

    def test_what_voids_it(self, calibration):
        """Windows chosen by looking, the best of several results, pairs taken out by hand."""
        whole, larger = (promised(calibration, side=side).void_if for side in (48, 480))
        assert len(larger) == len(whole) + 1
        assert any("a part of a larger image" in text for text in larger)
        assert any("several results" in text for text in whole)
        assert not any("independent" in text for text in whole)  # an expectation needs none
        skipped = [{"name": "a", "reason": "removed by key 1"}, {"name": "b", "reason": "damaged"}]
        fewer = promised(changed(calibration, skipped=skipped)).void_if
        assert [text for text in fewer if text not in whole] == [
            "pairs that were taken out because of their errors (1 were taken out by hand)"
        ]

    @pytest.mark.parametrize("metric", METRICS)
    def test_every_metric_is_worded(self, calibration, metric):
        settings = FidelitySettings(metric=metric)
        made = with_fidelity(calibration, metric=metric)
        promise = promised(made)
        assert f"the largest {settings.clause} in the mask" in promise.theorem
        assert (promise.error, promise.unit) == (settings.row.summary, settings.row.unit)
        assert (promise.lab_psnr_lower_bound_db is not None) == (metric == "pointwise")
        # Windows bound no root mean square of all.
        assert promised(made, side=480).lab_psnr_lower_bound_db is None

    def test_clipped_errors(self, calibration):
        promise = promised(with_fidelity(calibration, metric="pointwise", bound=0.5))
        assert "(where errors above 0.5 count as 0.5)" in promise.theorem
        assert (promise.bound, promise.loss_clipped_at) == (0.5, 0.5)
        assert promise.lab_psnr_lower_bound_db is None

    @pytest.mark.parametrize(
        ("degradation", "words"),
        [
            ({}, "(made by bicubic reduction by 2)"),
            ({"grey": True, "noise": 3}, "reduction by 2, noise of 3 grey levels)"),
            (None, "than the pairs"),
        ],
    )
    def test_the_degradation_is_told(self, calibration, degradation, words):
        """What the inputs were made by is part of what would void the promise."""
        made_by = None if degradation is None else Degradation(**degradation).model_dump()
        told = promised(changed(calibration, degradation=made_by)).void_if[0]
        assert told.endswith(words)

    def test_a_reader_is_told(self, calibration):
        """Of text the promise says who read it, and what nobody read."""
        text = promised(with_fidelity(calibration, metric="text", bound=1))
        assert text.metric == "text"
        assert "no word of the truth is read otherwise in the trusted part" in text.plain
        assert "rapidocr version" in text.theorem
        assert any("cannot read in the truth" in reason for reason in text.void_if)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trusted": 0.0}, "No pixel is trusted"),
        ({"trusted": 1.0}, "Every pixel is trusted"),
        ({"alpha": LAB_BOUND}, "the promise says nothing"),
        ({"alpha": 0.05}, "with n = 20 pairs"),
        ({"alpha": 0.05}, "at least 39 pairs"),  # ⌈B/α − 1⌉
        ({"size": (8, 480)}, "is 48×48: send a picture of at least 24×24 pixels"),
        ({"typicality": 0.01}, "unlike the calibration images"),
        ({"notes": ["A note."]}, "A note."),
        ({"lossless": False}, "lossy images"),
    ],
)
def test_each_circumstance(calibration, changes, words):
    """Whatever a reader must know is told in a sentence, and nothing else."""
    assert warnings(calibration) == []
    (text,) = warnings(calibration, **changes)
    assert words in text
    assert text.endswith(".")


@pytest.fixture(scope="module")
def likely(calibration):
    return calibration.with_pairs(
        calibration.measured_pairs(), created_by="test", guarantee=HighProbability(delta=0.05)
    )


@pytest.mark.parametrize("kind", ["calibration", "likely"])
def test_the_smallest_possible_alpha(request, kind):
    """It needs no warning; anything below does, and near 0 no number of pairs is named."""
    calibration = request.getfixturevalue(kind)
    assert warnings(calibration, calibration.curve.min_alpha) == []
    assert warnings(calibration, math.nextafter(calibration.curve.min_alpha, 0)) != []
    for alpha in (0, 5e-324, 1e-300, 1e-18):
        (text,) = warnings(calibration, alpha)
        assert "no number of pairs" in text


class TestSentence:
    """The first sentence, for people who are no statisticians."""

    def test_nine_of_ten(self, calibration):
        """In expectation it tells the error that nine of ten do not exceed, in steps of colour."""
        error = rounded_up(calibration.usual(0.125).error)
        assert promised(calibration, 0.125).plain == (
            "In 9 of 10 such pictures nothing in the trusted part is off by more than "
            f"{error:g}: {100 * error:.2g} of the 100 steps of lightness, or {254 * error:.2g} of "
            "the 254 of a colour axis, as a mean over about 9 pixels."
        )
        exceeds = f"exceeds {error:g} with a probability of at most 0.1"
        assert exceeds in promised(calibration, 0.125).theorem
        windows = promised(calibration, 0.125, side=480).plain
        assert windows.startswith("In 9 of 10 windows of 48×48 pixels of such pictures nothing")

    def test_too_few_to_tell(self, calibration):
        """Eight scenes say nothing about one of ten: then the mean is told; below B/9 nothing."""
        few = calibration.with_pairs(calibration.measured_pairs()[:8], created_by="test")
        assert few.usual(0.5) is None
        told = promised(few, 0.5).plain
        assert told.startswith("On average over such pictures the largest error in the trusted")
        assert promised(few, 0.1).plain.startswith("Nothing is trusted")


class TestProbability:
    @pytest.fixture
    def made(self, calibration):
        return calibration.with_pairs(
            calibration.measured_pairs(),
            created_by="test",
            guarantee=Probability(tolerance=0.1, level=0.1),
        )

    def test_the_promise(self, made):
        """The loss is whether τ is exceeded: nothing is cut, B is 1, and α is that of the level."""
        promise = promised(made)
        assert (promise.kind, promise.tolerance, promise.level) == ("probability", 0.1, 0.1)
        assert (promise.bound, promise.loss_clipped_at, made.manifest.default_alpha) == (
            1,
            None,
            0.1,
        )
        assert "exceeds 0.1 with a probability of at most 0.1" in promise.theorem
        assert "With these very 20 the probability is at most 0.22" in promise.theorem
        assert promise.plain.startswith(
            "In 9 of 10 such pictures nothing in the trusted part is off by more than 0.1:"
        )
        assert promise.share_of_windows is None
        assert made.curve.min_alpha == 1 / 21


class TestSizes:
    @pytest.fixture
    def mixed(self, calibration):
        """Forty-eight scenes of 48×48, and twenty-four of 96×96 that lose four times as much."""
        small, large = calibration.measured_pairs(), []
        for k in range(24):
            pair = small[k % 20]
            info = pair.info.model_copy(update={"name": f"large{k}", "width": 96, "height": 96})
            stairs = LossCurve(pair.loss_curve.levels, 4 * pair.loss_curve.errors)
            large.append(replace(pair, info=info, loss_curve=stairs))
        more = [
            replace(pair, info=pair.info.model_copy(update={"name": f"small{k}"}))
            for k, pair in enumerate([*small, *small, *small[:8]])
        ]
        return calibration.with_pairs([*more, *large], created_by="test")

    @pytest.mark.parametrize(
        ("side", "how", "n"),
        [(48, "exact", 72), (96, "whole", 24), (64, "whole", 24), (128, "per_window", 72)],
    )
    def test_those_as_large_calibrate_alone(self, mixed, side, how, n):
        """The curve, n and the words are those of the scenes that are at least as large."""
        subject = ApplicableCalibration.of(mixed, size=(side, side))
        promise = guarantee(subject, 0.5)
        assert (promise.applicability, promise.n, subject.part.curve.n) == (how, n, n)
        assert ("speaks about all of the image" in promise.theorem) == (how == "whole")
        assert ("fit of a window may differ" in promise.theorem) == (how == "per_window")
        assert "times as large" not in promise.theorem

    def test_small_scenes_do_not_hide_the_loss_of_large_ones(self, mixed):
        """Of all together the mask would be larger than what large pictures bear."""
        alone = ApplicableCalibration.of(mixed, size=(96, 96)).part
        assert np.mean(alone.losses(alone.curve.threshold(0.2))) <= 0.2
        assert np.mean(alone.losses(mixed.curve.threshold(0.2))) > 0.2


class TestAfterLooking:
    """α that is chosen after looking: another curve of the same pairs."""

    def test_the_promise(self, calibration):
        """The same calibration serves both kinds; the void of choosing α goes, the others stay."""
        cut = with_fidelity(calibration, bound=0.5)
        free = cut.partitions.under("post_hoc")
        promise, named = promised(free, 0.1), promised(cut, 0.1)
        assert (promise.kind, promise.between, promise.menu) == ("post_hoc", (0.05, 0.15), None)
        assert "the expected ratio of the largest" in promise.theorem
        assert promise.plain.endswith(", though α is chosen after looking.")
        assert [void for void in named.void_if if void not in promise.void_if] == [
            "choosing alpha after looking at this image or its mask"
        ]
        assert free.curve.threshold(0.1) <= cut.curve.threshold(0.1)
        assert free.curve.threshold(0.2) == free.curve.threshold(0.15)
        assert cut.partitions.under("post_hoc") is free
        assert cut.partitions.under("expectation") is cut.partitions.under(None) is cut

    def test_only_from_one_in_expectation(self, likely):
        """Of another kind its own masks can be had only."""
        with pytest.raises(BadRequest, match="derive"):
            likely.partitions.under("post_hoc")


JPEG = InputFeatures(Compression("jpeg", 75), 2.0, 0.0, 3.0, 0.5, 3.0, 0.0)
PNG = replace(JPEG, compression=LOSSLESS)


def test_scenes_are_what_is_counted(calibration):
    """Twenty pairs of five scenes are n = 5 everywhere, and the statement says so."""
    pairs = [{**p, "scene": f"s{k // 4}"} for k, p in enumerate(calibration.document["pairs"])]
    few = changed(calibration, pairs=pairs)
    promise = promised(few, 0.5)
    assert (promise.n, promise.pairs) == (5, 20)
    assert "5 calibration scenes (20 images, each scene counting once)" in promise.theorem
    assert "of a new scene" in promise.theorem
    assert few.curve.min_alpha == pytest.approx(LAB_BOUND / 6)
    (text,) = warnings(few, 0.1)
    assert "n = 5 scenes" in text


class TestClasses:
    @pytest.fixture
    def sorted_(self, calibration):
        """Twelve pairs from files without loss, eight from JPEG of quality 80 to 89."""
        pairs = [
            {**pair, "input_class": "lossless" if k < 12 else "jpeg-80"}
            for k, pair in enumerate(calibration.document["pairs"])
        ]
        pipeline = {**calibration.document["pipeline"], "input_rule": UPLOAD}
        return changed(calibration, pairs=pairs, pipeline=pipeline)

    @pytest.mark.parametrize(
        ("compression", "name", "n"),
        [(LOSSLESS, "lossless", 12), (Compression("jpeg", 84), "jpeg-80", 8)],
    )
    def test_the_curve_of_its_own_class(self, sorted_, compression, name, n):
        """n, statement and curve are those of the pairs whose input was of the upload's class."""
        subject = ApplicableCalibration.of(
            sorted_, None, replace(JPEG, compression=compression), size=(48, 48)
        )
        promise = guarantee(subject, 0.5)
        assert (promise.n, subject.document.n, subject.document.name) == (n, n, name)
        assert subject.part.curve.n == n
        assert f"{n} calibration images whose input was of the class {name!r}" in promise.theorem
        assert any("saving the upload anew" in void for void in promise.void_if)
        assert not any("scenes with many" in void for void in promise.void_if)
        assert promise.applicability == "exact"

    def test_a_class_that_is_missing(self, sorted_):
        """Nothing is promised, the answer says it first, and names what there is."""
        subject = ApplicableCalibration.of(sorted_, None, JPEG, size=(48, 48))
        promise = guarantee(subject, 0.5)
        assert promise.applicability == "unknown"
        assert promise.plain.startswith("No promise")
        assert promise.theorem.startswith("No promise: too few calibration images")
        assert (subject.document.name, subject.document.n) == ("jpeg-68", 0)
        text, *_ = warnings(sorted_, 0.5, JPEG, notes=["A note."])
        assert "JPEG of quality 68 to 79" in text
        assert "promises nothing" in text

    def test_strays_are_no_cover(self, sorted_):
        """What another way of making X left in a class speaks about no upload of that class."""
        pairs = [
            {**pair, "variant": "lossless" if pair["input_class"] == "jpeg-80" else None}
            for pair in sorted_.document["pairs"]
        ]
        strays = changed(sorted_, pairs=pairs)
        facts = replace(JPEG, compression=Compression("jpeg", 84))
        assert promised(strays, facts=facts).applicability == "unknown"
        assert promised(strays, facts=PNG).applicability == "exact"
        left = next(k for k, pair in enumerate(pairs) if pair["variant"])
        one = [{**p, "variant": p["variant"] if k == left else None} for k, p in enumerate(pairs)]
        alone = changed(sorted_, pairs=one)
        assert (
            alone.partitions.of_class("jpeg-80").pairs
            == sorted_.partitions.of_class("jpeg-80").pairs - 1
        )

    def test_loss_under_a_calibration_that_had_none(self, calibration):
        """Without classes it is known where X was made from Y, and said too."""
        made = changed(calibration, degradation=Degradation().model_dump())
        assert promised(made, facts=JPEG).applicability == "unknown"
        assert "compressed with loss" in warnings(made, 0.5, JPEG)[0]
        assert promised(made, facts=PNG).applicability == "exact"
        assert warnings(made, 0.5, PNG) == []
        for known in (Degradation(jpeg=70), None):
            given = changed(calibration, degradation=known and known.model_dump())
            assert promised(given, facts=JPEG).applicability == "exact"
