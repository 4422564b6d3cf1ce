"""The fitted σ: a function of the samples and the input, named by its weights."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.conformal import cells, terms
from app.conformal.fitted import Fit, shipped
from app.conformal.indecision import IndecisionSettings
from app.sampling.pipeline import Pipeline
from app.system import score_cores

from .strategies import accumulated, samples

OF_ONE = Fit(weights=(("residual@1", 0.4), ("log slope@5", 0.2), ("light0@2", -0.1)), offset=0.5)
OF_WITNESS = Fit(weights=(*OF_ONE.weights, ("witness@0", 0.3), ("log witness@5", 0.2)))
OF_MORE = Fit(weights=(*OF_ONE.weights, ("variance@2", 0.3)))
BENT = dataclasses.replace(
    OF_ONE, units=((0.7, 1.0, 0.2, -0.1, 0.3), (-0.4, 0.0, -0.1, 0.2, 0.1), (1.0, -99.0, 0, 0, 0))
)
FITTED = [IndecisionSettings("fitted", fit=fit) for fit in (OF_ONE, OF_MORE, BENT, OF_WITNESS)]


def measured(stack, config):
    made = accumulated(stack, config, np.full_like(stack[0], 100) if config.needs_input else None)
    if config.needs_witness:
        made.witness = stack[0][::-1]
    return made


def sigma_of(stack, config):
    return measured(stack, config).result()


class TestSigma:
    @pytest.mark.parametrize("config", FITTED)
    def test_it_is_the_exponential_of_the_weighted_terms(self, config):
        """σ = exp(w₀ + Σ w_j f_j + Σ v_k max(0, b_k + Σ u_kj f_j)), from cells of 4×4 pixels."""
        accumulator = measured(samples(5, 48, 56), config)
        fit = config.fit
        dense = cells.dense_terms(accumulator.maps())
        f = np.stack([dense[name].astype(np.float64) for name, _ in fit.weights])
        total = sum(weight * plane for (_, weight), plane in zip(fit.weights, f, strict=True))
        for out, bias, *bent in fit.units:
            total += out * np.maximum(0, bias + sum(u * p for u, p in zip(bent, f, strict=True)))
        sigma = np.exp(total + fit.offset)
        expected = cells.whole((48, 56), lambda look: cells.enlarged(sigma, (48, 56), look))
        np.testing.assert_allclose(accumulator.result(), expected, rtol=1e-4)
        np.testing.assert_allclose(fit.log_sigma(f), total + fit.offset, atol=1e-9)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("span-x4-m1", [0.04558974504, 0.04453940317, 0.04509269446, 0.04514594419]),
            ("realesr-x4-m1", [0.05180066824, 0.05366104096, 0.05304709077, 0.05338687221]),
        ],
    )
    def test_its_values_are_fixed(self, name, expected):
        """A calibration is portable: these values must not move with a machine or a library."""
        y, x = np.mgrid[:64, :64]
        mean = np.stack([x * 7 + y * 3 & 63, (x * y & 31) + 16, (x + 2 * y & 15) * 4]) / 64
        residual, witness = (((x * a + y * b) % 97 / 97e3) for a, b in ((5, 11), (3, 7)))
        facts = {
            "loss": 0.25, "lossy": 1.0, "jpeg": 1.0, "softness": 0.5, "noise": 0.3, "detail": 2.0
        }  # fmt: skip
        mean, residual, witness = (part.astype(np.float32) for part in (mean, residual, witness))
        maps = terms.Maps(mean, None, residual, witness, facts)
        sigma = shipped(name).sigma(maps)
        found = [sigma[0, 0], sigma[10, 33], sigma[63, 63], sigma.mean(dtype=np.float64)]
        np.testing.assert_allclose(found, expected, rtol=3e-6)

    @settings(max_examples=15, deadline=None)
    @given(
        st.integers(1, 40),
        st.integers(1, 40),
        st.sampled_from([0, 128, 255, None]),
        st.sampled_from(FITTED),
    )
    def test_any_samples_give_a_finite_sigma(self, height, width, level, config):
        """Flat, saturated, identical and tiny samples have a σ that is finite and above 0."""
        stack = samples(config.least_samples, height, width)
        if level is not None:
            stack[...] = level
        sigma = sigma_of(stack, config)
        assert (sigma.shape, sigma.dtype) == ((height, width), np.float32)
        assert np.isfinite(sigma).all()
        assert sigma.min() > 0

    def test_the_largest_weights_give_a_finite_sigma(self):
        """Whatever weights an import carries, σ neither overflows nor becomes 0."""
        for weight in (100.0, -100.0):
            config = IndecisionSettings("fitted", fit=Fit(weights=(("slope@0", weight),)))
            sigma = sigma_of(samples(1), config)
            assert np.isfinite(sigma).all()
            assert sigma.min() > 0

    @pytest.mark.parametrize("config", FITTED)
    def test_the_other_settings_do_not_touch_it(self, config):
        """Window, blur and clipping belong to the other estimators."""
        stack = samples()
        other = dataclasses.replace(config, kernel="gaussian", size=3, blur=0, clip_quantile=0.5)
        np.testing.assert_array_equal(sigma_of(stack, config), sigma_of(stack, other))
        assert (other.window, other.radius) == (1, None)


class TestFit:
    def test_what_it_needs_follows_from_its_terms(self):
        """Only a residual needs X, and only a variance needs a second sample."""
        assert (OF_ONE.needs_input, OF_ONE.least_samples) == (True, 1)
        assert (OF_MORE.needs_input, OF_MORE.least_samples) == (True, 2)
        with pytest.raises(ValueError, match="at least 2 samples"):
            sigma_of(samples(1), IndecisionSettings("fitted", fit=OF_MORE))

    def test_it_survives_json(self):
        """What is written can be read, and is equal."""
        for config in FITTED:
            pipeline = Pipeline(
                fingerprint="fake:1", scale=2, samples=2, indecision=config, witness="w"
            )
            stored = pipeline.model_dump(mode="json")
            assert Pipeline.model_validate(json.loads(json.dumps(stored))) == pipeline

    @pytest.mark.parametrize(
        "bad",
        [
            {"weights": ()},
            {"weights": (("variance@9", 1.0),)},
            {"weights": (("slope@0", 1.0), ("slope@0", 1.0))},
            {"weights": (("slope@0", float("nan")),)},
            {"weights": (("slope@0", 1e3),)},
            {"weights": (("slope@0", 1.0),), "offset": float("inf")},
            {"weights": (("slope@0", 1.0),), "note": "x" * 3000},
            {"weights": (("slope@0", 1.0),), "units": ((1.0, 0.0),)},
            {"weights": (("slope@0", 1.0),), "units": ((1.0, 0.0, 1e5),)},
            {"weights": (("slope@0", 1.0),), "units": ((0.0, 0.0, 0.0),) * 65},
        ],
    )
    def test_it_is_checked(self, bad):
        """Unknown terms and numbers that no fit gives are refused."""
        with pytest.raises(ValueError, match=r"terms|weights|term|provenance|units"):
            Fit(**bad)


class TestSettings:
    def test_a_fit_belongs_to_the_fitted(self):
        """The fitted σ needs weights, and no other takes them."""
        for wrong in ({"estimator": "fitted"}, {"fit": OF_ONE}):
            with pytest.raises(ValueError, match="a fit belongs to"):
                IndecisionSettings(**wrong)


def test_threads_do_not_matter():
    """Strips that are made beside each other give the same bits, in their order."""
    accumulator = measured(samples(2, 300, 200), FITTED[2])
    alone = accumulator.result()
    with score_cores("test") as accumulator.each:
        strips = [*accumulator.strips(lambda top, rows: (top, rows))]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in strips]), alone)
    assert [top for top, _ in strips] == [*range(0, 300, 64)]
