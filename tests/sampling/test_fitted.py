"""Sigmas that were fitted, the terms that they weigh, and fitting them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.conformal.strategies import accumulated, samples
from trustscale_server.conformal import CalibrationSet, LossCurve, RiskCurve
from trustscale_server.platform.ordered_map import ordered_map
from trustscale_server.sampling.sigma import features, fitting, pyramid, weighted_sum
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.fits import Fit, shipped_fit
from trustscale_server.sampling.spec import MeasurementSpec

OF_ONE = Fit(weights=(("residual@1", 0.4), ("log slope@5", 0.2), ("light0@2", -0.1)), offset=0.5)
OF_CELLS = Fit(weights=(*OF_ONE.weights, ("residual@0", 0.3), ("log residual@5", 0.2)))
OF_MORE = Fit(weights=(*OF_ONE.weights, ("variance@2", 0.3)))
BENT = dataclasses.replace(
    OF_ONE, units=((0.7, 1.0, 0.2, -0.1, 0.3), (-0.4, 0.0, -0.1, 0.2, 0.1), (1.0, -99.0, 0, 0, 0))
)
OF_ALL = Fit(
    weights=tuple((name, 0.02) for name in features.term_names() if not name.startswith("fact "))
)
FITTED = [IndecisionSettings("fitted", fit=fit) for fit in (OF_ONE, OF_MORE, BENT, OF_CELLS)]
OF_CLASSES = (
    dataclasses.replace(OF_CELLS, classes=("lossless", "soft/lossless")),
    dataclasses.replace(OF_MORE, classes=("jpeg-30",)),
)
BY_CLASS = IndecisionSettings("fitted", fit=OF_ONE, fits=OF_CLASSES)


def measured(stack, config):
    return accumulated(stack, config, np.full_like(stack[0], 100) if config.needs_input else None)


def sigma_of(stack, config):
    return measured(stack, config).result()


class TestSigma:
    @pytest.mark.parametrize("config", [*FITTED, IndecisionSettings("fitted", fit=OF_ALL)])
    @pytest.mark.parametrize("shape", [(1, 1), (70, 3), (48, 57)])
    def test_it_is_the_exponential_of_the_weighted_terms(self, config, shape):
        """σ = exp(w₀ + Σ w_j f_j + Σ v_k max(0, b_k + Σ u_kj f_j)), from cells of 4×4 pixels."""
        accumulator = measured(samples(5, *shape), config)
        fit = config.fit
        dense = pyramid.dense_terms(accumulator.maps())
        assert {plane.shape for plane in dense.values()} == {tuple(-(-side // 4) for side in shape)}
        f = np.stack([dense[name].astype(np.float64) for name, _ in fit.weights])
        total = sum(weight * plane for (_, weight), plane in zip(fit.weights, f, strict=True))
        for out, bias, *bent in fit.units:
            total += out * np.maximum(0, bias + sum(u * p for u, p in zip(bent, f, strict=True)))
        sigma = np.exp(total + fit.offset)
        expected = weighted_sum.assembled(
            shape, lambda look: weighted_sum.enlarged_cells(sigma, shape, look)
        )
        np.testing.assert_allclose(accumulator.result(), expected, rtol=1e-4)
        np.testing.assert_allclose(fit.log_sigma(f), total + fit.offset, atol=1e-9)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("span-x4-m1", [0.07118827105, 0.07086926699, 0.07026703656, 0.07177069373]),
         ("span-x4-m1-lossless", [0.09627281874, 0.09641711414, 0.09772969782, 0.09618200105]),
         ("realesr-x4-m1", [0.1297018975, 0.1137125194, 0.1278778762, 0.1178586889]),
         ("realesr-x4-safe-m1", [0.04871691763, 0.04845776781, 0.04810015112, 0.04818491295]),
         ("realesr-x4-safe-m1-lossy", [0.4195771813, 0.4279533327, 0.4328377843, 0.4314484828])],
    )  # fmt: skip
    def test_its_values_are_fixed(self, name, expected):
        """A calibration is portable: these values must not move with a machine or a library."""
        y, x = np.mgrid[:64, :64]
        mean = np.stack([x * 7 + y * 3 & 63, (x * y & 31) + 16, (x + 2 * y & 15) * 4]) / 64
        residual = (x * 5 + y * 11) % 97 / 97e3
        facts = {
            "loss": 0.25, "lossy": 1.0, "jpeg": 1.0, "softness": 0.5, "noise": 0.3, "detail": 2.0
        }  # fmt: skip
        mean, residual = (part.astype(np.float32) for part in (mean, residual))
        maps = features.Maps(mean, None, residual, facts)
        sigma = shipped_fit(name).sigma(maps)
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


@pytest.mark.parametrize(
    "bad",
    [{"weights": ()}, {"weights": (("variance@9", 1.0),)},
     {"weights": (("slope@0", 1.0), ("slope@0", 1.0))},
     {"weights": (("slope@0", float("nan")),)}, {"weights": (("slope@0", 1e3),)},
     {"weights": (("slope@0", 1.0),), "offset": float("inf")},
     {"weights": (("slope@0", 1.0),), "note": "x" * 3000},
     {"weights": (("slope@0", 1.0),), "units": ((1.0, 0.0),)},
     {"weights": (("slope@0", 1.0),), "units": ((1.0, 0.0, 1e5),)},
     {"weights": (("slope@0", 1.0),), "units": ((0.0, 0.0, 0.0),) * 65}],
)  # fmt: skip
def test_a_fit_is_checked(bad):
    with pytest.raises(ValueError, match=r"terms|weights|term|provenance|units"):
        Fit(**bad)


class TestFitsOfClasses:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [("soft/lossless", OF_CLASSES[0]), ("jpeg-30", OF_CLASSES[1]), ("jpeg-80", OF_ONE)],
    )
    def test_a_class_has_its_own_or_that_of_the_others(self, name, expected):
        assert BY_CLASS.of_class(name) == IndecisionSettings("fitted", fit=expected)
        assert FITTED[0].of_class(name) is FITTED[0]

    def test_they_need_what_any_of_them_needs(self):
        assert (BY_CLASS.needs_input, BY_CLASS.least_samples) == (True, 2)

    def test_they_need_a_rule(self):
        with pytest.raises(ValueError, match="input rule"):
            MeasurementSpec(fingerprint="fake:1", scale=2, samples=2, indecision=BY_CLASS)


def test_threads_do_not_matter():
    """Strips that are made beside each other give the same bits, in their order."""
    accumulator = measured(samples(2, 300, 200), FITTED[2])
    alone = accumulator.result()
    with ordered_map("test") as map_fn:
        strips = [*accumulator.strips(lambda top, rows: (top, rows), map_fn)]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in strips]), alone)
    assert [top for top, _ in strips] == [*range(0, 300, 64)]


SIDE = 64


def photograph(seed):
    """Maps, and an error that grows with the residual and has nothing to do with the variance."""
    random = np.random.default_rng(seed)

    def field(deviation):
        values = ndimage.gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), deviation)
        return values / values.std()

    truth = field(6)
    residual = np.exp(2 * truth + 0.2 * field(2)) * 1e-3
    variance = np.exp(2 * field(6)) * 1e-3
    mean = np.clip(0.5 + 0.1 * np.stack([field(2) for _ in range(3)]), 0, 1)
    error = np.exp(truth + 0.1 * field(4)) * 0.02
    maps = features.Maps(*(x.astype(np.float32) for x in (mean, variance, residual)))
    return maps, np.minimum(error, 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def made():
    return fitting.fit([fitting.fit_sample(*photograph(seed)) for seed in range(16)], terms=6)


def area(sigma_of, alpha=0.06, of=photograph):
    """Mean trusted area on other photographs, calibrated on yet others."""
    found = [of(seed) for seed in range(100, 140)]
    sigmas = [sigma_of(maps) for maps, _ in found]
    stairs = [LossCurve.from_maps(s, error) for s, (_, error) in zip(sigmas, found, strict=True)]
    threshold = RiskCurve.from_calibration_set(CalibrationSet(stairs[:28], 0.5)).threshold(alpha)
    return np.mean([(sigma < threshold).mean() for sigma in sigmas[28:]])


def test_it_finds_what_tells_the_error(made):
    """On photographs that it never saw it trusts more than what misleads, nearly all it can."""
    fitted = area(made.sigma)
    misled = area(Fit(weights=(("variance@1", 0.5),)).sigma)
    best = area(Fit(weights=(("residual@1", 0.5),)).sigma)
    assert fitted > misled + 0.1
    assert fitted > best - 0.05


@pytest.mark.parametrize("shape", [(5, 9), (64, 30), (200, 300)])
def test_a_photograph_is_counted_whole(shape):
    """Whatever its size, what is seen stands for all of its spots, with the worst of them."""
    maps, error = photograph(1)
    grown = [np.resize(plane, (*plane.shape[:-2], *shape)) for plane in maps[:3]]
    error = np.resize(error, shape)
    seen = fitting.fit_sample(features.Maps(*grown), error)
    np.testing.assert_allclose(seen.share.sum(axis=1), 1, atol=1e-4)
    assert seen.error.max() == error.max()
    assert np.isfinite(seen.terms).all()


NAMES = features.term_names()
FACTS = {name: 0.1 * place - 0.3 for place, name in enumerate(features.FACTS)}


def maps(height=96, width=64, seed=0):
    """Two energies and a mean image in normalised Lab, with texture in one half."""
    random = np.random.default_rng(seed)
    mean = ndimage.gaussian_filter(random.random((3, height, width)), (0, 2, 2))
    mean[:, :, width // 2 :] += random.random((3, height, width - width // 2)) * 0.1
    variance = random.random((height, width)) ** 4 * 1e-3
    residual = random.random((height, width)) ** 2 * 1e-2
    planes = (x.astype(np.float32) for x in (mean, variance, residual))
    return features.Maps(*planes, FACTS)


def weighted(found, weights):
    """Σ_j w_j f_j, rounded."""
    rows = {name: np.array([weight]) for name, weight in weights.items()}
    return weighted_sum.log_sigma(found, rows)


def enlarged(logs, shape):
    return weighted_sum.assembled(
        shape, lambda look: weighted_sum.enlarged_cells(logs, shape, look)
    )


class TestTerms:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 9))
    def test_the_blur_has_the_bits_of_scipys(self, height, width, seed):
        """Fits were made with scipy's, and σ must not change under them."""
        plane = np.random.default_rng(seed).random((height, width))
        expected = (plane - ndimage.gaussian_filter(plane, 1.0, mode="reflect")) ** 2
        np.testing.assert_array_equal(pyramid.lost_by_a_blur(plane), expected)

    @pytest.mark.parametrize("energy", ["variance", "residual"])
    def test_what_is_not_known_has_no_terms(self, energy):
        """A single sample has no variance, and without X there is no residual."""
        found = maps()._replace(**{energy: None})
        assert set(NAMES) - found.known == {name for name in NAMES if energy in name}
        assert set(pyramid.dense_terms(found)) == found.known
        for name in (f"{energy}@3", "variance@9"):  # it is an error, not a term of zero
            with pytest.raises(ValueError, match=f"no terms .*{name}"):
                weighted(found, {name: 1.0})


def test_a_sum_is_rounded():
    """log σ is a multiple of 2^-20, so that the last bits of a logarithm do not matter."""
    scaled = weighted(maps(), {"variance@0": 0.3, "log slope@5": -0.7}) * 2**20
    np.testing.assert_array_equal(scaled, np.rint(scaled))


def test_strips_leave_no_seam():
    """Pixels are made a few rows of cells at a time, and are the same as made at once."""
    logs = np.random.default_rng(0).random((53, 9))
    at_once = pyramid.double(pyramid.double(logs.astype(np.float32)))[:210, :35]
    strips = weighted_sum.enlarged_cells(logs, (210, 35), lambda _, rows: rows)
    np.testing.assert_array_equal(np.concatenate([*strips]), at_once)
