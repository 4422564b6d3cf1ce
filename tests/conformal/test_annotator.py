"""The synthetic annotator: a declared rule, never mistaken for a person."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import structural_similarity

from app.conformal import annotator, fidelity
from app.conformal.annotator import AnnotatorSettings
from app.conformal.lab import normalised_lab
from tests.factories import photo

SYNTHETIC = fidelity.FidelitySettings(metric="semantic", labels="synthetic")


@pytest.fixture(scope="module")
def truth():
    """A photograph with texture."""
    random = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(random.normal(0, 60, (96, 96, 1)), (1, 1, 0))
    return np.clip(photo(0, 96, 96) + texture, 0, 255).astype(np.uint8)


def changed(truth, box=np.s_[30:60, 40:70], by=None):
    """The truth with a part of it replaced."""
    other = truth.copy()
    other[box] = truth[box][::-1, ::-1] if by is None else by
    return other


class TestRule:
    def test_invisible_noise(self, truth):
        """Equal images have no marks, nor has noise that nobody sees."""
        assert not annotator.label(truth, truth).any()
        noise = np.random.default_rng(1).integers(-4, 5, truth.shape)
        noisy = np.clip(truth + noise, 0, 255).astype(np.uint8)
        assert not annotator.label(truth, noisy).any()

    def test_another_colour(self, truth):
        """A recoloured part is marked with a margin, and nothing far from it."""
        marks = annotator.label(truth, changed(truth, by=truth[30:60, 40:70][..., ::-1] // 2))
        assert marks[32:58, 42:68].all()
        assert not marks[:20].any()
        assert not marks[:, 85:].any()

    def test_another_texture(self, truth):
        """Invented texture of the right colour is marked."""
        marks = annotator.label(truth, changed(truth))
        assert marks[30:60, 40:70].mean() > 0.9
        assert not marks[:15].any()

    def test_specks_vanish_and_marks_grow(self):
        """Opening keeps nothing thinner than its square; what it keeps grows by the margin."""
        marks = np.zeros((40, 40), bool)
        marks[5, 5] = True
        marks[20:22, :] = True
        assert not annotator._brushed(marks, AnnotatorSettings()).any()
        marks[:] = False
        marks[10:15, 20:24] = True
        grown = annotator._brushed(marks, AnnotatorSettings(opening=3, margin=4))
        expected = np.zeros_like(marks)
        expected[6:19, 16:28] = True
        assert np.array_equal(grown, expected)

    def test_structure_is_ssim(self, truth):
        """The structural difference is (1 − SSIM)/2 as scikit-image computes it.

        It cuts the Gaussian at 3.5 deviations, we at 4.
        """
        ours, theirs = normalised_lab(truth)[0], normalised_lab(changed(truth))[0]
        _, similarity = structural_similarity(
            ours.astype(float),
            theirs.astype(float),
            data_range=1.0,
            gaussian_weights=True,
            sigma=2.0,
            use_sample_covariance=False,
            full=True,
        )
        measured = annotator.structure_difference(ours, theirs, AnnotatorSettings(contrast=0))
        assert measured == pytest.approx((1 - similarity) / 2, abs=2e-3)

    @given(st.integers(0, 50), st.floats(0.02, 0.3), st.floats(1, 3))
    @settings(max_examples=20, deadline=None)
    def test_a_laxer_threshold_marks_no_less(self, seed, color, factor):
        """Marks only grow when thresholds fall; swapping the images changes nothing."""
        one, two = photo(seed, 32, 40), photo(seed + 1, 32, 40)
        strict = annotator.label(one, two, AnnotatorSettings(color=color * factor, structure=0.4))
        lax = annotator.label(one, two, AnnotatorSettings(color=color, structure=0.2))
        assert not (strict & ~lax).any()
        assert np.array_equal(
            lax, annotator.label(two, one, AnnotatorSettings(color=color, structure=0.2))
        )

    def test_wrong_images(self, truth):
        """Sizes and types are checked."""
        with pytest.raises(ValueError, match="differ in size"):
            annotator.label(truth, truth[1:])
        with pytest.raises(ValueError, match="uint8"):
            annotator.label(truth.astype(float), truth)


class TestSettings:
    def test_they_say_that_no_person_labelled(self):
        """The record names the rule, its version and that it is synthetic."""
        recorded = asdict(AnnotatorSettings())
        assert (recorded["name"], recorded["version"]) == ("trustscale-annotator", 1)
        assert recorded["synthetic"] is True
        assert "synthetic annotator" in AnnotatorSettings().title

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": "somebody"},
            {"version": 2},
            {"synthetic": False},
            {"blur": 0},
            {"color": 0},
            {"structure": 1},
            {"opening": 2},
            {"margin": 65},
        ],
    )
    def test_wrong_ones(self, wrong):
        """A rule that does not exist, or that says that it is not synthetic, is refused."""
        with pytest.raises(ValueError, match=r"annotator|thresholds|opening"):
            AnnotatorSettings(**wrong)


class TestFidelity:
    def test_the_error_is_the_label(self, truth):
        """With synthetic labels D is 1 where the rule marks; a person's label cannot count too."""
        other = changed(truth)
        error = fidelity.error(truth, other, SYNTHETIC)
        assert np.array_equal(error, annotator.label(truth, other).astype(np.float32))
        assert fidelity.bound(SYNTHETIC) == 1
        assert not fidelity.needs_label(SYNTHETIC)
        with pytest.raises(ValueError, match="metric of people"):
            fidelity.error(truth, truth, SYNTHETIC, label=np.zeros(truth.shape[:2], bool))

    def test_settings_of_the_rule_count(self, truth):
        """Thresholds are part of the fidelity settings."""
        tuned = replace(SYNTHETIC, annotator=AnnotatorSettings(structure=0.95, color=2.0))
        assert not fidelity.error(truth, changed(truth), tuned).any()
