"""D against its formulae, its bound, and its colours."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tests.conformal.oracle import lab64
from trustscale_server.conformal import fidelity
from trustscale_server.conformal.error_metrics import LAB_BOUND, METRICS
from trustscale_server.conformal.fidelity import FidelitySettings, ReaderSettings
from trustscale_server.pixels.filters import gaussian_blur, gaussian_radius, largest_float32
from trustscale_server.pixels.lab import lab_block, normalised_lab

COLOUR = [key for key, row in METRICS.items() if row.bound == LAB_BOUND]
ROWS = [key for key in METRICS if key != "text"]  # the reader has tests of its own
MEASURED = [key for key in ROWS if not METRICS[key].needs_label]


def pair(seed=0, shape=(32, 40, 3)):
    random = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(random.integers(0, 256, shape), (2, 2, 0)).astype(np.uint8)
    prediction = np.clip(truth + random.normal(0, 12, shape), 0, 255).astype(np.uint8)
    return truth, prediction


def settings_of(key, **fields):
    return FidelitySettings(metric=key, **fields)


def blurred(plane):
    return ndimage.gaussian_filter(plane, 3)


class TestError:
    @pytest.mark.parametrize(
        ("metric", "by_formula"),
        [("pointwise", lambda y, made: np.abs(y - made).sum(axis=0)),
         ("neighborhood", lambda y, made: blurred(np.abs(y - made).sum(axis=0))),
         ("neighborhood_difference", lambda y,
          made: sum(np.abs(blurred(a) - blurred(b)) for a, b in zip(y, made, strict=True)))],
    )  # fmt: skip
    def test_formulae(self, metric, by_formula):
        """‖Y − Ŷ‖₁, K * ‖Y − Ŷ‖₁ and ‖Y * K − Ŷ * K‖₁ in normalised Lab."""
        truth, prediction = pair()
        got = fidelity.error(truth, prediction, FidelitySettings(metric=metric, blur=3))
        np.testing.assert_allclose(got, by_formula(lab64(truth), lab64(prediction)), atol=5e-5)

    @pytest.mark.parametrize("shape", [(32, 40, 3), (5, 30, 3), (1, 1, 3)])
    def test_structure(self, shape):
        """(1 − SSIM)/2 of the lightness, by its formula with σ = 1.5; also below its window."""
        truth, prediction = pair(shape=shape)
        sides = [(0, max(0, 11 - side)) for side in shape[:2]]
        y, made = (np.pad(lab64(one)[0], sides, mode="symmetric") for one in (truth, prediction))

        def mean(plane):
            return ndimage.gaussian_filter(plane, 1.5, truncate=3.5)

        m_y, m_made = mean(y), mean(made)
        v_y, v_made = mean(y * y) - m_y**2, mean(made * made) - m_made**2
        both = mean(y * made) - m_y * m_made
        similar = (2 * m_y * m_made + 1e-4) * (2 * both + 9e-4)
        similar /= (m_y**2 + m_made**2 + 1e-4) * (v_y + v_made + 9e-4)
        got = fidelity.error(truth, prediction, FidelitySettings(metric="structure"))
        expected = (1 - similar)[: shape[0], : shape[1]] / 2
        np.testing.assert_allclose(got, expected, atol=2e-4)

    @pytest.mark.parametrize("metric", COLOUR)
    def test_the_worst_pair_of_colours_stays_within_the_bound(self, metric):
        """Pure green against pure blue is the largest error there is, and it is ≤ B."""
        green, blue = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)
        green[..., 1] = blue[..., 2] = 255
        worst = fidelity.error(green, blue, FidelitySettings(metric=metric))
        assert (worst <= LAB_BOUND).all()
        np.testing.assert_allclose(worst, 1.9575660174, atol=3e-5)

    def test_a_declared_bound_is_enforced(self):
        """With B = 0.05 no error exceeds 0.05: D is cut, never believed."""
        truth, prediction = pair()
        cut = fidelity.error(truth, prediction, FidelitySettings(metric="pointwise", bound=0.05))
        assert cut.max() == largest_float32(0.05)
        assert float(cut.max()) <= 0.05

    def test_semantic_is_the_label(self):
        """D is 1 where the label is not black, 0 elsewhere, with B = 1."""
        truth, prediction = pair()
        label = np.zeros(truth.shape[:2], np.uint8)
        label[2:5, 3] = 7
        got = fidelity.error(truth, prediction, FidelitySettings(metric="semantic"), label=label)
        np.testing.assert_array_equal(got, (label > 0).astype(np.float32))
        assert fidelity.bound(FidelitySettings(metric="semantic")) == 1
        assert FidelitySettings(metric="semantic").spec.needs_label

    def test_refuses_pairs_that_do_not_belong_together(self):
        truth, prediction = pair()
        label = np.zeros(truth.shape[:2], np.uint8)
        with pytest.raises(ValueError, match="differ in size"):
            fidelity.error(truth[1:], prediction, FidelitySettings())
        with pytest.raises(ValueError, match="label"):
            fidelity.error(truth, prediction, FidelitySettings(metric="semantic"))
        with pytest.raises(ValueError, match="label"):
            fidelity.error(truth, prediction, FidelitySettings(), label=label)
        with pytest.raises(ValueError, match="the label has the shape"):
            fidelity.error(truth, prediction, FidelitySettings(metric="semantic"), label=label[1:])


def test_the_blur_has_scipy_s_bits():
    """Also in place, and where sums are so near the middle of two numbers that scipy decides."""
    random = np.random.default_rng(0)
    weights = ndimage.gaussian_filter1d(np.eye(9)[4], 1.0)
    doubtful = np.zeros((64, 64), np.float32)
    doubtful[6] = random.random(64)
    sums = weights[4] * doubtful[6].astype(np.float64)
    below = sums.astype(np.float32)
    middle = (below + np.nextafter(below, np.float32(2)).astype(np.float64)) / 2
    doubtful[10] = (middle - sums) / weights[0]
    rough, tiny = (random.random(shape, np.float32) ** 8 for shape in ((70, 133), (5, 3)))
    for values, deviation in ((doubtful, 1.0), (rough, 4.0), (tiny, 8.0)):
        expected = ndimage.gaussian_filter(values, deviation)
        np.testing.assert_array_equal(gaussian_blur(values, deviation), expected)
        np.testing.assert_array_equal(gaussian_blur(values, deviation, out=values), expected)


class TestRows:
    @pytest.mark.parametrize("key", MEASURED)
    def test_radius(self, key):
        """D of a pixel depends on the pixels around it only, as far as its blur or window goes."""
        settings = settings_of(key, blur=2)
        radius = {"pointwise": 0, "structure": 11 // 2}.get(key, gaussian_radius(2))
        truth = np.full((81, 81, 3), 128, np.uint8)
        changed = truth.copy()
        changed[39:42, 39:42] = (0, 255, 0)
        rows = np.flatnonzero((fidelity.error(truth, changed, settings) > 0).any(axis=1))
        reach = np.abs(rows - 40).max() - 1  # the change itself reaches one pixel
        assert 0.3 * radius <= reach <= radius

    @pytest.mark.parametrize("key", ROWS)
    def test_memory(self, key):
        """D is measured within the bytes of the row, and needs more than a third of them."""
        settings, side = settings_of(key), 1024
        truth, prediction = pair(shape=(side, side, 3))
        label = truth[..., 0] if settings.spec.needs_label else None
        fidelity.error(truth, prediction, settings, label=label)  # tables are made once
        tracemalloc.start()
        try:
            fidelity.error(truth, prediction, settings, label=label)
            # Less what does not grow with the image: the blocks that are converted to Lab.
            peak = (tracemalloc.get_traced_memory()[1] - 2_000_000) / side**2
        finally:
            tracemalloc.stop()
        assert settings.spec.bytes_per_pixel / 3 < peak <= settings.spec.bytes_per_pixel


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"metric": "lpips"}, "metric"), ({"blur": -1}, "blur"), ({"bound": 0.0}, "bound"),
     ({"bound": 1e7}, "bound"), ({"unit": "pixel"}, "a spot of 32 to 4096 pixels"),
     ({"spot": 31}, "a spot of 32 to 4096 pixels"), ({"spot": 4097}, "a spot of 32 to 4096 pixels"),
     ({"metric": "semantic", "reader": ReaderSettings()}, "belong to the metric text")],
)  # fmt: skip
def test_refuse_what_has_no_meaning(bad, words):
    """Every field is checked when the settings are made, and so are contradictions."""
    with pytest.raises(ValueError, match=words):
        FidelitySettings(**bad)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(32, 140))
def test_spots_cover_an_output(height, width, side):
    """Every pixel is in one, none is needless, and all of them lie as far apart."""
    seen = np.zeros((height, width), int)
    windows = fidelity.spots(height, width, side)
    for window in windows:
        assert seen[window].shape == (min(side, height), min(side, width))
        seen[window] += 1
    assert seen.min() == 1
    assert len(windows) == -(-height // side) * -(-width // side)
    for axis, length in enumerate((height, width)):
        starts = sorted({window[axis].start for window in windows})
        assert (starts[0], starts[-1]) == (0, max(0, length - side))
        steps = np.diff(starts)
        assert len(steps) == 0 or np.ptp(steps) <= 1


def test_a_picture_is_one_window():
    settings = FidelitySettings(unit="picture")
    assert settings.windows(300, 200) == [(slice(0, 300), slice(0, 200))]


def test_the_bound_is_the_diameter_of_the_srgb_cube():
    """No pair of the cube's corners and edges is further apart than 1.9576 in normalised Lab."""
    axis = np.array([0, 38, 44, 85, 108, 128, 170, 213, 255], np.uint8)
    colours = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 1, 3)
    lab = lab64(colours)[:, :, 0].T
    signs = np.array([(1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)])
    ranges = (lab @ signs.T).max(axis=0) - (lab @ signs.T).min(axis=0)
    assert LAB_BOUND - 1e-3 < ranges.max() <= LAB_BOUND


def colours(count, top):
    return np.random.default_rng(top).integers(0, top, (count, 500, 3), dtype=np.uint8)


@pytest.mark.parametrize("top", [256, 24])
def test_is_within_the_stated_distance_of_the_formula(top):
    """The largest difference from float64 scikit-image is below 1.9e-5, dark colours included."""
    rgb = colours(400, top)
    assert np.abs(normalised_lab(rgb) - lab64(rgb)).max() < 1.9e-5


def test_a_colour_has_the_same_bits_everywhere():
    """Position and block do not matter: one colour, one value."""
    rgb = np.tile(colours(1, 256)[:, :37], (997, 1, 1))
    lab = normalised_lab(rgb)
    assert (lab == lab[:, :1]).all()
    single = np.empty((3, 1), np.float32)
    lab_block(rgb[0, 5:6], single)
    np.testing.assert_array_equal(single[:, 0], lab[:, 0, 5])
