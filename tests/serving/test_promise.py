"""The guarantee in words and numbers, and everything a careful reader must know."""

import asyncio
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from harness.factories import calibration_of, changed
from harness.fakes import FakeUpscaler
from trustscale_server.calibration.guarantee_kinds import (
    Expectation,
    HighProbability,
    PostHoc,
    Probability,
)
from trustscale_server.calibration.guarantees import rounded_up
from trustscale_server.conformal.error_metrics import LAB_BOUND, METRICS
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.words import ANY
from trustscale_server.images.compression import LOSSLESS, Compression
from trustscale_server.kinds.classes import Kind
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.kinds.features import UPLOAD, InputFeatures
from trustscale_server.platform.errors import BadRequest
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.serving.promise import guarantee
from trustscale_server.serving.warnings import warnings_of


@pytest.fixture(scope="module")
def calibration():
    return asyncio.run(calibration_of(FakeUpscaler(), 20))


def with_fidelity(calibration, **fields):
    """The same calibration as if it had been made with another D."""
    pipeline = calibration.document["pipeline"]
    changes = {**pipeline, "fidelity": {**pipeline["fidelity"], **fields}}
    return changed(calibration, pipeline=changes)


def promised(calibration, alpha=0.1, side=48, features=None, **under):
    subject = ApplicableCalibration.from_calibration(
        calibration, None, features, shape=(side, side), **under
    )
    return guarantee(subject, alpha)


def warnings(calibration, alpha=0.1, features=None, **changes):
    known = {"shape": (48, 48), "trusted": 0.5, "notes": [], "lossless": True}
    known |= changes
    subject = ApplicableCalibration.from_calibration(
        calibration, None, features, shape=known.pop("shape")
    )
    return warnings_of(subject, alpha, **known)


class TestGuarantee:
    def test_the_statement(self, calibration):
        """It names n, metric, α, the spot, and that it is an expectation over images of one law."""
        promise = promised(calibration, 0.125)
        for words in (
            "20 calibration images",
            "The expected value of L is at most 0.125, over the draw",
            "exchange",
        ):
            assert words in promise.theorem
        assert "inside a random spot, 48 pixels wide and high" in promise.theorem
        assert (promise.promised, promise.unit, promise.spot) == (True, "spot", 48)
        assert (promise.n, promise.bound, promise.alpha) == (20, LAB_BOUND, 0.125)
        assert promise.max_alpha == calibration.everything.max_alpha
        assert (promise.kind, promise.delta) == ("expectation", None)
        assert promise.loss_clipped_at is None
        # A random spot is meant, wherever it lies and however many there are.
        others = [promised(calibration, 0.125, side) for side in (8, 480)]
        assert others == [promise] * 2
        whole = promised(with_fidelity(calibration, unit="picture"), 0.125)
        assert "in the mask" in whole.theorem
        assert "spot " not in " ".join([whole.plain, whole.theorem, *whole.void_if])
        (more,) = set(promise.void_if) - set(whole.void_if)
        assert more.startswith("choosing a spot after looking")

    def test_too_few_to_trust_anything(self, calibration):
        promise = promised(calibration, 0.05)
        assert not promise.promised
        assert promise.plain.startswith("Nothing is trusted: ")
        assert promised(calibration, calibration.curve.min_alpha).promised

    def test_what_voids_it(self, calibration):
        """Inputs made otherwise, the best of several results, pairs taken out by hand."""
        whole = promised(calibration).void_if
        assert any("several results" in text for text in whole)
        assert not any("independent" in text for text in whole)  # an expectation needs none
        skipped = [{"name": "a", "reason": "removed by key 1"}, {"name": "b", "reason": "damaged"}]
        fewer = promised(changed(calibration, skipped=skipped)).void_if
        assert [text for text in fewer if text not in whole] == [
            "pairs that were taken out because of their errors (1 were taken out by hand)"
        ]
        made_by = Degradation(grey=True, noise=3).model_dump()
        told = promised(changed(calibration, degradation=made_by)).void_if[0]
        assert told.endswith("reduction by 2, noise of 3 grey levels); its subject is not checked")

    @pytest.mark.parametrize("metric", [name for name in METRICS if name != "text"])
    def test_every_metric_is_worded(self, calibration, metric):
        settings = FidelitySettings(metric=metric)
        made = with_fidelity(calibration, metric=metric)
        promise = promised(made)
        assert f"the largest {settings.clause} in the part of the mask" in promise.theorem
        # Spots bound no root mean square of all, nor do errors that are cut.
        whole = with_fidelity(made, unit="picture")
        bounds = [promised(one).lab_psnr_lower_bound_db is not None for one in (made, whole)]
        assert bounds == [False, metric == "pointwise"]
        cut = promised(with_fidelity(whole, bound=0.5))
        assert ", where errors above 0.5 count as 0.5. " in cut.theorem or metric == "semantic"
        assert (cut.bound, cut.loss_clipped_at) == (0.5, 0.5)
        assert cut.lab_psnr_lower_bound_db is None

    @pytest.mark.parametrize(
        ("promise", "plain"),
        [
            (Expectation(), "Of the words called right at most 50 % are wrong, on average over"),
            (
                Probability(tolerance=ANY),
                "In 1 of 2 pictures like those measured, no word called right is wrong",
            ),
            (
                Probability(tolerance=0.2),
                "In 1 of 2 pictures like those measured, at most 20 % of the words called right",
            ),
            (
                PostHoc(between=(0.1, 0.5)),
                "are wrong, on average over pictures like those measured, even if α",
            ),
            (HighProbability(), "with a probability of 0.9 over the calibration"),
        ],
    )
    def test_words(self, calibration, promise, plain):
        guarantee = promise.fitted_to(IndecisionSettings()).model_dump()
        made = changed(with_fidelity(calibration, metric="text", bound=1), guarantee=guarantee)
        text = promised(made, 0.5)
        assert plain in text.plain
        assert "as a text reader, not a person, reads them" in text.plain
        assert "the share of wrong words among those whose box lies in the mask" in text.theorem
        assert "rapidocr version" in text.theorem
        assert any("finds no word" in reason for reason in text.void_if)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trusted": 0.0}, "No pixel is trusted"),
        ({"alpha": 0.2}, "alpha=0.2 is above 0.154, from which on the mask does not grow"),
        ({"alpha": LAB_BOUND}, "the promise says nothing"),
        ({"alpha": 0.05}, "with n = 20 pairs"),
        ({"alpha": 0.05}, "at least 39 pairs"),  # ⌈B/α − 1⌉
        ({"shape": (8, 480)}, "smaller than a spot of 48 pixels"),
        ({"notes": ["A note."]}, "A note."),
        ({"lossless": False}, "lossy images"),
    ],
)
def test_each_circumstance(calibration, changes, words):
    """Whatever a reader must know is told in a sentence, and nothing else."""
    assert warnings(calibration) == warnings(calibration, trusted=1.0) == []
    (text,) = warnings(calibration, **changes)
    assert words in text
    assert text.endswith(".")


@pytest.fixture(scope="module")
def likely(calibration):
    return calibration.with_pairs(
        calibration.measured_pairs(), created_by="test", guarantee=HighProbability(delta=0.05)
    )


class TestSentence:
    """The first sentence, for people who are no statisticians."""

    def test_nine_of_ten(self, calibration):
        """In expectation it tells the error that nine of ten do not exceed, in steps of colour."""
        error = rounded_up(calibration.everything.typical_error(0.125).error)
        right = (
            "pictures like those measured, mean colours around trusted points are right within "
            f"{100 * error:.2g} of 100 steps of lightness; you asked for 12 on average. Fine "
            "detail may be invented."
        )
        plain = promised(calibration, 0.125).plain
        assert plain == f"In 9 of 10 spots of {right}"
        assert max(len(sentence.split()) for sentence in plain.split(". ")) <= 30
        whole = with_fidelity(calibration, unit="picture")
        assert promised(whole, 0.125).plain == f"In 9 of 10 {right}"
        exceeds = f"L exceeds {error:g} with a probability of at most 0.1"
        assert exceeds in promised(calibration, 0.125).theorem

    def test_too_few_to_tell(self, calibration):
        """Eight scenes say nothing about one of ten: then the mean is told; below B/9 nothing."""
        few = calibration.with_pairs(calibration.measured_pairs()[:8], created_by="test")
        assert few.everything.typical_error(0.5) is None
        told = promised(few, 0.5).plain
        assert told == (
            "On average over spots of pictures like those measured, mean colours around the worst "
            "trusted point are right within 50 of 100 steps of lightness. Fine detail may be "
            "invented."
        )
        assert promised(few, 0.1).plain.startswith("Nothing is trusted")


class TestAfterLooking:
    """α that is chosen after looking: another curve of the same pairs."""

    def test_the_promise(self, calibration):
        """The same calibration serves both kinds; the void of choosing α goes, the others stay."""
        cut = with_fidelity(calibration, bound=0.25)
        free = cut.subset(None, "post_hoc")
        promise, named = promised(cut, 0.05, kind="post_hoc"), promised(cut, 0.05)
        assert (promise.kind, promise.between, promise.menu) == ("post_hoc", (0.03, 0.07), None)
        assert "The expected value of L/α is at most 1 for an α between" in promise.theorem
        assert ", even if this α was chosen after looking." in promise.plain
        assert "you asked" not in promise.plain  # α is not a mean here
        assert [void for void in named.void_if if void not in promise.void_if] == [
            "choosing alpha after looking at this image or its mask"
        ]
        assert free.curve.threshold(0.05) <= cut.curve.threshold(0.05)
        assert free.curve.threshold(0.2) == free.curve.threshold(0.07)
        assert cut.subset(None, "post_hoc") is free
        assert cut.subset(None, "expectation") is cut.subset() is cut.everything

    def test_only_from_one_in_expectation(self, likely):
        """Of another kind its own masks can be had only."""
        with pytest.raises(BadRequest, match="derive"):
            likely.subset(None, "post_hoc")


class TestRobust:
    """A promise that holds for harder pictures, of the same curves."""

    @pytest.mark.parametrize(
        ("factor", "words"),
        [(1.25, "fifth"), (1.5, "third"), (2.0, "half"), (1.1, "9.1 %")],
    )
    def test_its_sentence(self, calibration, factor, words):
        promise = promised(calibration, 0.35, robust=factor)
        assert promise.robust == factor
        assert f"pictures like those measured, even without the easiest {words} of" in promise.plain
        assert f"more than {factor:g} times as likely as in theirs" in promise.theorem
        assert promised(calibration, 0.35).robust == 1
        assert "easiest" not in promised(calibration, 0.35).plain

    def test_its_mask_is_smaller(self, calibration):
        """With Γ, and of the plain one with Γ = 1; what is made of it has the same Γ."""
        thresholds = [
            calibration.subset(None, None, factor).curve.threshold(0.15)
            for factor in (None, 1, 1.25, 2)
        ]
        assert thresholds[0] == thresholds[1] > thresholds[2] > thresholds[3]
        harder = calibration.subset(None, None, 2.0)
        assert harder is calibration.subset(None, "expectation", 2.0)
        assert calibration.subset(None, "post_hoc", 2.0).guarantee.robust == 2

    @pytest.mark.parametrize(
        "settings",
        [Expectation(), HighProbability(), Probability(tolerance=0.2), PostHoc(menu=(0.3, 0.6))],
    )
    def test_how_many_scenes_it_needs(self, calibration, settings):
        """The least number of scenes can hold α, if none loses anything, and one fewer cannot."""
        settings = settings.model_copy(update={"robust": 1.5})
        settings = settings.fitted_to(calibration.pipeline.indecision)
        n = settings.minimal_n(0.3, 1.0)
        enough, fewer = (settings.min_alpha(1.0, [Fraction(1)] * count) for count in (n, n - 1))
        assert enough <= 0.3 < fewer


PNG = InputFeatures(LOSSLESS, 2.0, 0.0, 3.0, 0.0)
JPEG, WEBP = (replace(PNG, kind=Kind(name, -9.0)) for name in ("jpeg-85", "webp"))


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
        """Twelve pairs from files without loss, eight from JPEG files."""
        pairs = [
            {**pair, "input_class": "lossless" if k < 12 else "jpeg-85"}
            for k, pair in enumerate(calibration.document["pairs"])
        ]
        pipeline = {**calibration.document["pipeline"], "input_rule": UPLOAD}
        return changed(calibration, pairs=pairs, pipeline=pipeline)

    @pytest.mark.parametrize(("features", "n"), [(PNG, 12), (JPEG, 8)])
    def test_the_curve_of_its_own_class(self, sorted_, features, n):
        """n, statement and curve are those of the pairs whose input was of the upload's class."""
        name = features.kind.name
        subject = ApplicableCalibration.from_calibration(sorted_, None, features, shape=(48, 48))
        promise = guarantee(subject, 0.5)
        assert (promise.n, subject.document.n, subject.document.name) == (n, n, name)
        assert subject.subset.curve.n == n
        assert f"{n} calibration images whose input was of the class {name!r}" in promise.theorem
        assert any("saving the upload anew" in void for void in promise.void_if)
        assert promise.promised

    def test_a_class_that_is_missing(self, sorted_):
        """Nothing is promised, the answer says it first, and names what the upload is."""
        subject = ApplicableCalibration.from_calibration(sorted_, None, WEBP, shape=(48, 48))
        promise = guarantee(subject, 0.5)
        assert not promise.promised
        assert promise.plain == (
            "No promise. The calibration has too few uploads like this one (WebP with loss; class "
            "'webp'); calibrate with inputs like it."
        )
        assert promise.theorem.startswith("No promise. What follows holds for other uploads. Let")
        assert "exceeds" not in promise.theorem
        assert (subject.document.name, subject.document.n) == ("webp", 0)
        text, note = warnings(sorted_, 0.125, WEBP, notes=["A note."])
        assert text.endswith("calibrate with inputs like it: the mask promises nothing about it.")
        assert note == "A note."

    @pytest.mark.parametrize(
        ("compression", "said"),
        [
            (Compression("jpeg", 80), None),
            (Compression("jpeg", 38), None),  # a quality is read within three
            (Compression("jpeg", 36), "JPEG file of a quality of about 36"),
            (Compression("webp", 12), "WebP file of a quality of about 12"),
            (Compression("heic", 37), None),
            (Compression("heic", 36), "HEIC file of a quality of about 36"),
            (Compression("heic"), None),  # of a form that nothing reads
            (Compression("avif", 12), None),  # none was calibrated: its class decides
            (Compression("webp"), None),
        ],
    )
    def test_a_quality_below_those_that_were_calibrated(self, sorted_, compression, said):
        """Nothing is promised, and the answer says why; a truth that came with X says nothing."""
        ways = Mixture(
            mixture=[{}, {"jpeg": (60, 90)}, {"before": 40, "webp": (30, 50)}, {"heic": 40}]
        )
        features = replace(PNG, compression=compression)
        made = changed(sorted_, degradation=ways.model_dump(mode="json"))
        promise = promised(made, 0.5, features=features)
        assert promise.promised is (said is None)
        if said is not None:
            assert f"No promise. It went through a {said}, and the lowest" in promise.plain
        assert promised(sorted_, 0.5, features=features).promised

    def test_strays_count_as_often_as_their_way(self, sorted_):
        """The statement says so, and names how many scenes and images there were.

        Twelve pictures and eight, of which each was made in two ways that are read alike.
        """
        pairs = [
            {**pair, "name": f"{pair['name']}~{way}", "variant": way}
            for pair in sorted_.document["pairs"]
            for way in ("lossless", "jpeg-85")
        ]
        ways = Mixture(mixture=[{}, {"way": "jpeg-85", "jpeg": 90}], shares={"lossless": 3})
        degradation = ways.model_dump(mode="json")
        twice = np.repeat(np.arange(20), 2)
        made = replace(
            sorted_,
            document={**sorted_.document, "pairs": pairs, "degradation": degradation},
            arrays=sorted_.arrays.take(twice),
        )
        words = (
            "the 12 calibration scenes (24 images, each counting by how frequent its way is among "
            "uploads, a scene once at most) whose"
        )
        assert words in promised(made, 0.5, features=PNG).theorem
        assert promised(made, 0.5, features=JPEG).n == 8
