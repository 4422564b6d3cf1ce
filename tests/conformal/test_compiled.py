"""The compiled kernels against numpy: every bit is the same, and numpy stands by."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from structlog.testing import capture_logs

from app import warmup
from app.conformal import Staircase, compiled, fidelity
from app.conformal.filters import gaussian_blur, smooth
from app.conformal.indecision import Accumulator
from app.conformal.lab import XYZ_WIDTH, lab_distance, lab_function, normalised_lab
from app.conformal.proof import disagreements
from app.conformal.quantiles import quantiles

EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SIDES = st.integers(1, 60)


@pytest.fixture(scope="module")
def kernels():
    """The kernels, compiled once."""
    pytest.importorskip("numba", reason="the extra `fast` is not installed")
    return importlib.import_module("app.conformal.kernels").Compiled()


@pytest.fixture(autouse=True)
def _numpy_again():
    yield
    compiled.use(None)


def equal(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and np.array_equal(left, right)


def both(kernels, function):
    """What a function gives with numpy, and with the kernels."""
    compiled.use(None)
    plain = function()
    compiled.use(kernels)
    fast = function()
    compiled.use(None)
    return plain, fast


def images(random, count, height, width):
    """Images of every kind of neighbourhood: noise, equal pixels, extremes."""
    stack = random.integers(0, 256, (count, height, width, 3), np.uint8)
    stack[:, : height // 2] = stack[0, : height // 2]
    stack[:, :, : width // 3] = random.choice([0, 255], (count, height, width // 3, 3))
    return stack


class TestBits:
    def test_the_lab_function(self, kernels):
        """f is computed instead of looked up, and is right at each of its 2^21 places."""
        index = np.arange(1 << XYZ_WIDTH, dtype=np.int32)
        assert equal(kernels.f(index), lab_function())

    @EXAMPLES
    @given(st.integers(0, 2**32), st.integers(1, 11), SIDES, SIDES)
    def test_sigma(self, kernels, seed, count, height, width):
        """σ of 1 to 11 samples, so of full and broken groups of four."""
        stack = images(np.random.default_rng(seed), count, height, width)

        def sigma():
            accumulator = Accumulator((height, width))
            for sample in stack:
                accumulator.add(sample)
            return accumulator.result(), accumulator.identical()

        (plain, alike), (fast, fast_alike) = both(kernels, sigma)
        assert equal(plain, fast)
        assert alike == fast_alike

    @EXAMPLES
    @given(
        st.integers(0, 2**32),
        SIDES,
        SIDES,
        st.sampled_from(["pointwise", "neighborhood", "neighborhood_difference"]),
        st.sampled_from([0.0, 0.1, 0.7, 4.0, 9.3]),
    )
    def test_error(self, kernels, seed, height, width, metric, blur):
        """D under every metric, and the staircase that follows."""
        truth, prediction = images(np.random.default_rng(seed), 2, height, width)
        asked = {"metric": metric, "blur": blur}
        plain, fast = both(kernels, lambda: fidelity.error(truth, prediction, asked))
        assert equal(plain, fast)
        sigma = lab_distance(prediction, truth)
        assert Staircase.from_maps(sigma, plain) == Staircase.from_maps(sigma, fast)

    @EXAMPLES
    @given(
        arrays.arrays(
            np.float32,
            st.tuples(SIDES, SIDES),
            elements=st.floats(0, 2, width=32) | st.floats(0, 2**-20, width=32),
        ),
        st.integers(2, 90),
        st.floats(0.05, 12),
    )
    def test_windows(self, kernels, values, size, deviation):
        """Windows of any width, also wider than the image, odd or even."""
        for function in (
            lambda: smooth(values, "box", size),
            lambda: smooth(values, "gaussian", size),
            lambda: gaussian_blur(values, deviation),
        ):
            assert equal(*both(kernels, function))

    @EXAMPLES
    @given(
        arrays.arrays(
            np.float32,
            st.integers(1, 400),
            elements=st.floats(0, 2, width=32) | st.sampled_from([0, 0.5, 2**-140]),
        ),
        st.lists(st.floats(0, 1), min_size=1).map(sorted),
    )
    def test_quantiles(self, kernels, values, levels):
        """Quantiles of values with ties and subnormal numbers, between any two of them."""
        assert equal(*both(kernels, lambda: quantiles(values, np.array(levels))))

    def test_any_memory_layout(self, kernels):
        """Read-only, turned and mirrored samples, as decoders and symmetries hand them over."""
        base = images(np.random.default_rng(3), 3, 40, 40)
        base.setflags(write=False)
        stack = [base[0], base[1].swapaxes(0, 1), base[2][::-1, ::-1]]

        def sigma():
            accumulator = Accumulator((40, 40))
            for sample in stack:
                accumulator.add(sample)
            return accumulator.result()

        assert equal(*both(kernels, sigma))
        assert equal(*both(kernels, lambda: lab_distance(stack[1], stack[2])))
        assert equal(*both(kernels, lambda: smooth(lab_distance(base[0], base[1]).T, "box", 5)))

    def test_a_change_between_samples(self, kernels):
        """The kernels may come, or go, in the middle of a request."""
        stack = images(np.random.default_rng(4), 9, 20, 30)
        sigmas = []
        for turns in ((None,) * 9, (None, None, *[kernels] * 7), (*[kernels] * 3, *[None] * 6)):
            accumulator = Accumulator((20, 30))
            for sample, turn in zip(stack, turns, strict=True):
                compiled.use(turn)
                accumulator.add(sample)
            compiled.use(None)
            sigmas.append(accumulator.result())
        assert equal(sigmas[0], sigmas[1])
        assert equal(sigmas[0], sigmas[2])

    @EXAMPLES
    @given(
        arrays.arrays(np.float64, st.tuples(SIDES, SIDES), elements=st.floats(0, 1)),
        st.integers(2, 90),
    )
    def test_float64(self, kernels, values, size):
        """The literal patch variance needs windows in float64; a Gaussian is left to scipy."""
        assert equal(*both(kernels, lambda: smooth(values, "box", size)))
        assert equal(*both(kernels, lambda: smooth(values, "gaussian", size)))

    def test_lab(self, kernels):
        """Normalised Lab of images around the size of a block."""
        for height, width in ((1, 1), (32, 32), (41, 25), (64, 50)):
            (image,) = images(np.random.default_rng(7), 1, height, width)
            assert equal(*both(kernels, lambda image=image: normalised_lab(image)))


class TestMemory:
    def test_waiting_samples_are_bounded(self, kernels, monkeypatch):
        """At most four samples wait, fewer if they are large; then they are let go."""
        stack = images(np.random.default_rng(6), 9, 20, 30)
        compiled.use(kernels)
        for limit, most in ((2**26, 3), (2 * stack[0].nbytes, 1), (0, 0)):
            monkeypatch.setattr("app.conformal.indecision._WAITING_BYTES", limit)
            accumulator = Accumulator((20, 30))
            held = []
            for sample in stack:
                accumulator.add(sample)
                held.append(len(accumulator._waiting))
            assert max(held) == most


class TestProof:
    def test_the_kernels_pass(self, kernels):
        """On this machine nothing disagrees."""
        assert disagreements(kernels) == []

    @pytest.mark.parametrize(
        "name", ["f", "fold", "variance", "lab", "distance", "order_statistics", "box", "gaussian"]
    )
    def test_one_wrong_bit_is_found(self, kernels, name):
        """A kernel that is off in the last place of one value is named."""

        class Broken:
            def __getattr__(self, asked):
                return getattr(kernels, asked)

        def wrong(*arguments):
            result = getattr(kernels, name)(*arguments)
            place = arguments[1] if name == "fold" else result
            flat = place.reshape(-1)
            flat[-1] = flat[-1] + 1 if name == "fold" else np.nextafter(flat[-1], np.float32(9))
            return result

        broken = Broken()
        setattr(broken, name, wrong)
        assert disagreements(broken) == [name]


class TestWarmUp:
    def test_proven_kernels_are_used(self, kernels, tmp_path, monkeypatch):
        """What agrees with numpy is put to use, once."""
        monkeypatch.setattr("app.conformal.kernels.Compiled", lambda: kernels)
        assert warmup.warm_up(tmp_path)
        assert compiled.kernels() is kernels
        assert warmup.warm_up(tmp_path)

    def test_kernels_that_disagree_are_not(self, kernels, tmp_path, monkeypatch):
        """They are named in the log, and numpy goes on."""
        monkeypatch.setattr("app.conformal.kernels.Compiled", lambda: kernels)
        monkeypatch.setattr("app.conformal.proof.disagreements", lambda _: ["box"])
        with capture_logs() as logs:
            assert not warmup.warm_up(tmp_path)
        assert compiled.kernels() is None
        assert [(entry["event"], entry["kernels"]) for entry in logs] == [
            ("kernels_disagree", ["box"])
        ]

    def test_without_numba(self, tmp_path, monkeypatch):
        """One line in the log, no error."""
        monkeypatch.setitem(sys.modules, "numba", None)
        with capture_logs() as logs:
            assert not warmup.warm_up(tmp_path)
        assert [entry["event"] for entry in logs] == ["kernels_unavailable"]

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        """The machine code is then kept nowhere, not in a place that others can write."""
        file = tmp_path / "file"
        file.write_bytes(b"")
        assert warmup._cache(file) == ""
        assert warmup._cache(tmp_path).startswith(str(tmp_path))

    def test_the_switch(self, tmp_path):
        """compiled=off starts nothing."""
        off = importlib.import_module("app.settings").Settings(compiled="off", data_dir=tmp_path)
        assert warmup.start_warm_up(off) is None
