"""The terms of the fitted σ against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from app.conformal import cells, terms, texture
from app.images.compression import Compression
from app.images.facts import look_at

NAMES = terms.term_names()
FACTS = {name: 0.1 * place - 0.3 for place, name in enumerate(terms.FACTS)}


def maps(height=96, width=64, seed=0):
    """Three energies and a mean image in normalised Lab, with texture in one half."""
    random = np.random.default_rng(seed)
    mean = ndimage.gaussian_filter(random.random((3, height, width)), (0, 2, 2))
    mean[:, :, width // 2 :] += random.random((3, height, width - width // 2)) * 0.1
    variance = random.random((height, width)) ** 4 * 1e-3
    residual = random.random((height, width)) ** 2 * 1e-2
    witness = random.random((height, width)) ** 2 * 1e-2
    planes = (x.astype(np.float32) for x in (mean, variance, residual, witness))
    return terms.Maps(*planes, FACTS)


def weighted(found, weights):
    """Σ_j w_j f_j, rounded."""
    rows = {name: np.array([weight]) for name, weight in weights.items()}
    return cells.log_sigma(found, rows, lambda sums: sums[0])


def term(name, found):
    return weighted(found, {name: 1.0})


def enlarged(logs, shape):
    return cells.whole(shape, lambda look: cells.enlarged(logs, shape, look))


def blocks(plane, cell):
    height, width = plane.shape
    return plane.astype(np.float64).reshape(height // cell, cell, width // cell, cell)


class TestFacts:
    def test_a_fact_is_a_term_of_every_cell(self):
        """w · fact is added to log σ everywhere, and bends as any other term does."""
        found = maps()
        assert term("fact noise", found) == pytest.approx(FACTS["noise"], abs=1e-6)
        both = weighted(found, {"slope@2": 0.7, "fact noise": 2.0, "fact loss": -1.0})
        shift = 2 * FACTS["noise"] - FACTS["loss"]
        np.testing.assert_allclose(both, weighted(found, {"slope@2": 0.7}) + shift, atol=2e-6)
        dense = cells.dense_terms(found)["fact detail"]
        assert (dense == np.float32(FACTS["detail"])).all()

    def test_they_are_those_of_an_upload(self):
        """Every fact is measured on uploads; without them no term can be."""
        facts = look_at(np.zeros((20, 24, 3), np.uint8), Compression("jpeg", 60))
        assert set(facts.terms()) == set(terms.FACTS)
        with pytest.raises(ValueError, match="fact noise"):
            weighted(maps()._replace(facts=None), {"fact noise": 1.0})


class TestTerms:
    @pytest.mark.parametrize(
        ("energy", "floor"), [("variance", 1e-9), ("residual", 1e-8), ("witness", 1e-8)]
    )
    def test_the_finest_is_the_logarithm_of_the_mean_of_a_cell(self, energy, floor):
        """variance@0 = log(mean over 4×4 pixels + 1e-9), and so for the others."""
        found = maps()
        expected = np.log(blocks(getattr(found, energy), 4).mean(axis=(1, 3)) + floor)
        np.testing.assert_allclose(term(f"{energy}@0", found), expected, atol=1e-6)

    def test_detail_is_the_variance_of_the_lightness_in_a_cell(self):
        """detail@0 = log(Var of L over 4×4 pixels + 1e-7)."""
        found = maps()
        expected = np.log(blocks(found.mean[0], 4).var(axis=(1, 3)) + 1e-7)
        np.testing.assert_allclose(term("detail@0", found), expected, atol=1e-6)

    def test_slope_and_curve_are_the_squared_derivatives(self):
        """|∇L|² by forward differences and (ΔL)², borders reflected, averaged over 4×4 pixels."""
        found = maps()
        light = found.mean[0].astype(np.float64)
        around = np.pad(light, 1, mode="symmetric")
        down, right = around[2:, 1:-1] - light, around[1:-1, 2:] - light
        slope = blocks(down**2 + right**2, 4).mean(axis=(1, 3))
        curve = blocks(ndimage.laplace(light, mode="reflect") ** 2, 4).mean(axis=(1, 3))
        np.testing.assert_allclose(term("slope@0", found), np.log(slope + 1e-7), atol=1e-5)
        np.testing.assert_allclose(term("curve@0", found), np.log(curve + 1e-7), atol=1e-5)

    def test_a_band_is_what_a_blur_takes_away(self):
        """light1@1 squares the difference of the mean of 8×8 pixels and its blur by one cell."""
        found = maps(512, 512)
        means = blocks(found.mean[0], 8).mean(axis=(1, 3))
        lost = np.log((means - ndimage.gaussian_filter(means, 1)) ** 2 + 1e-7)
        got = term("light1@1", found)
        np.testing.assert_allclose(got, cells.double(lost), atol=1e-5)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 9))
    def test_the_blur_has_the_bits_of_scipys(self, height, width, seed):
        """Fits were made with scipy's, and σ must not change under them."""
        plane = np.random.default_rng(seed).random((height, width))
        expected = (plane - ndimage.gaussian_filter(plane, 1.0, mode="reflect")) ** 2
        np.testing.assert_array_equal(texture.lost_by_a_blur(plane), expected)

    def test_both_averages_are_the_ones_they_are_called(self):
        """variance@2 is the log of the mean of 16×16 pixels, log variance@2 the mean log."""
        found = maps(512, 512)
        means = blocks(found.variance, 4).mean(axis=(1, 3))
        for name, coarse in (
            ("variance@2", np.log(blocks(means, 4).mean(axis=(1, 3)) + 1e-9)),
            ("log variance@2", blocks(np.log(means + 1e-9), 4).mean(axis=(1, 3))),
        ):
            expected = cells.double(cells.double(coarse))
            np.testing.assert_allclose(term(name, found), expected, atol=1e-5)

    def test_the_coarsest_level_is_one_number_for_a_photograph_of_the_fitted_size(self):
        """variance@7 of 512×512 pixels is the logarithm of their mean, everywhere."""
        found = maps(512, 512)
        got = term("variance@7", found)
        np.testing.assert_allclose(
            got, np.log(found.variance.mean(dtype=np.float64) + 1e-9), atol=1e-6
        )

    @pytest.mark.parametrize("energy", ["variance", "residual", "witness"])
    def test_what_is_not_known_has_no_terms(self, energy):
        """A single sample has no variance, and without X there is no residual."""
        found = maps()._replace(**{energy: None})
        assert set(NAMES) - found.known == {name for name in NAMES if energy in name}
        assert set(cells.dense_terms(found)) == found.known
        for name in (f"{energy}@3", "variance@9"):  # it is an error, not a term of zero
            with pytest.raises(ValueError, match=f"no terms .*{name}"):
                weighted(found, {name: 1.0})


class TestSum:
    @settings(max_examples=12, deadline=None)
    @given(
        st.integers(1, 70),
        st.integers(1, 70),
        st.dictionaries(st.sampled_from(NAMES), st.floats(-1, 1), min_size=1, max_size=6),
    )
    def test_it_is_the_weighted_sum_of_the_terms(self, height, width, weights):
        """log σ = Σ_j w_j f_j for any size and weights, finite, whatever else is not measured."""
        found = maps(height, width)
        dense = cells.dense_terms(found)
        assert tuple(dense) == NAMES
        assert {plane.shape for plane in dense.values()} == {(-(-height // 4), -(-width // 4))}
        assert all(np.isfinite(plane).all() for plane in dense.values())
        expected = sum(w * dense[name].astype(np.float64) for name, w in weights.items())
        np.testing.assert_allclose(weighted(found, weights), expected, atol=2e-5)

    def test_it_is_rounded(self):
        """log σ is a multiple of 2^-20, so that the last bits of a logarithm do not matter."""
        scaled = weighted(maps(), {"variance@0": 0.3, "log slope@5": -0.7}) * 2**20
        np.testing.assert_array_equal(scaled, np.rint(scaled))

    def test_flat_images_are_finite(self):
        """Samples without any detail or disagreement end at the floors of the logarithms."""
        black = np.zeros((3, 40, 40), np.float32)
        dense = cells.dense_terms(terms.Maps(black, black[0], black[0]))
        assert all(np.isfinite(plane).all() for plane in dense.values())


class TestInterpolation:
    def test_constants_and_ramps_stay(self):
        """Enlarging adds nothing of its own, and is linear between the centres of cells."""
        np.testing.assert_array_equal(cells.double(np.full((3, 5), 0.3)), np.full((6, 10), 0.3))
        ramp = cells.double(np.arange(6.0)[None].repeat(4, axis=0))
        np.testing.assert_allclose(np.diff(ramp[0])[1:-1], 0.5)

    @given(st.integers(1, 40), st.integers(1, 40))
    def test_pixels_lie_between_their_cells(self, height, width):
        """`enlarged` has the size of the image and leaves neither end of the range."""
        logs = np.random.default_rng(0).random((-(-height // 4), -(-width // 4)))
        pixels = enlarged(logs, (height, width))
        assert (pixels.shape, pixels.dtype) == ((height, width), np.float32)
        assert np.float32(logs.min()) <= pixels.min()
        assert pixels.max() <= np.float32(logs.max())

    def test_strips_leave_no_seam(self):
        """Pixels are made a few rows of cells at a time, and are the same as made at once."""
        logs = np.random.default_rng(0).random((53, 9))
        at_once = cells.double(cells.double(logs.astype(np.float32)))[:210, :35]
        np.testing.assert_array_equal(enlarged(logs, (210, 35)), at_once)
