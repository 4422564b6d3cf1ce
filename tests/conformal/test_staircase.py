"""The staircase equals the definition of the loss, whatever the ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage

from app.conformal import Staircase

from . import oracle, strategies


def field(kind: str, size: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.random((size, size), dtype=np.float32)
    if kind == "rough":
        return noise
    if kind == "smooth":
        return ndimage.gaussian_filter(noise, 8)
    if kind == "tied":
        return np.where(noise < 0.87, np.float32(0), np.round(noise * 50) / np.float32(64))
    return np.minimum(noise, np.float32(0.6))  # clipped


class TestFromMaps:
    @given(strategies.maps())
    def test_equals_the_definition_at_every_level(self, maps):
        """L(t) of the staircase is max{D : σ ≤ t} at, between and outside all values of σ."""
        sigma, error = maps
        staircase = Staircase.from_maps(sigma, error)
        values = np.unique(sigma)
        for t in [*values, *np.nextafter(values, -np.inf), *np.nextafter(values, np.inf)]:
            assert staircase.loss(t) == oracle.loss(sigma, error, t)
        assert staircase.loss(-np.inf) == 0
        assert staircase.loss(np.inf) == error.max()

    @pytest.mark.parametrize("sigma", ["rough", "smooth", "tied", "clipped"])
    @pytest.mark.parametrize("error", ["rough", "smooth", "tied"])
    def test_filter_drops_no_breakpoint_of_a_large_image(self, sigma, error):
        """The two-pass filter finds exactly the breakpoints of a full sort."""
        s, d = field(sigma, 300, 1), field(error, 300, 2)
        order = np.argsort(s.ravel(), kind="stable")
        levels, running = s.ravel()[order], np.maximum.accumulate(d.ravel()[order])
        last = np.append(np.diff(levels) > 0, True)
        levels, running = levels[last], running[last]
        rises = np.diff(running, prepend=0) > 0
        staircase = Staircase.from_maps(s, d)
        np.testing.assert_array_equal(staircase.levels, levels[rises])
        np.testing.assert_array_equal(staircase.errors, running[rises])

    def test_negative_levels_are_ordinary_numbers(self):
        """σ below 0 is not meaningful but is ordered correctly."""
        random = np.random.default_rng(3)
        s = random.normal(size=(90, 90)).astype(np.float32)
        d = random.random((90, 90), dtype=np.float32)
        staircase = Staircase.from_maps(s, d)
        for t in np.quantile(s, [0.01, 0.3, 0.9]):
            assert staircase.loss(t) == oracle.loss(s, d, t)

    def test_minus_zero_is_zero(self):
        """−0 and 0 are one level, in the fast pass too."""
        s = np.zeros((40, 40), np.float32)
        s[1:] = -0.0
        d = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
        staircase = Staircase.from_maps(s, d)
        assert list(staircase.levels) == [0]
        assert list(staircase.errors) == [1]

    @pytest.mark.parametrize(
        ("sigma", "error"),
        [
            (np.array([[np.nan]]), np.array([[0.1]])),
            (np.array([[np.inf]]), np.array([[0.1]])),
            (np.array([[0.1]]), np.array([[np.nan]])),
            (np.array([[0.1]]), np.array([[np.inf]])),
            (np.array([[0.1]]), np.array([[-0.1]])),
            (np.zeros((2, 2)), np.zeros((2, 3))),
            (np.zeros((0, 2)), np.zeros((0, 2))),
        ],
    )
    def test_refuses_maps_without_a_meaning(self, sigma, error):
        """NaN, infinity, a negative error, unequal shapes and empty maps are errors."""
        with pytest.raises(ValueError, match=r"σ|D"):
            Staircase.from_maps(sigma.astype(np.float32), error.astype(np.float32))


class TestStaircase:
    @given(strategies.maps())
    def test_loss_below_is_the_loss_of_the_strict_mask(self, maps):
        """L(t−) is max{D : σ < t}; of many thresholds at once it is the same, and so is L(t)."""
        sigma, error = maps
        staircase = Staircase.from_maps(sigma, error)
        thresholds = np.array([*np.unique(sigma), np.inf, -np.inf])
        below = [error[sigma < t].max(initial=0) for t in thresholds]
        assert [staircase.loss_below(t) for t in thresholds] == below
        assert staircase.losses(thresholds, "left").tolist() == below
        expected = [staircase.loss(t) for t in thresholds]
        assert staircase.losses(thresholds, "right").tolist() == expected

    @pytest.mark.parametrize(
        ("levels", "errors"),
        [
            ([1, 1], [1, 2]),
            ([1, 2], [2, 2]),
            ([2, 1], [1, 2]),
            ([1], [0]),
            ([1, 2], [1]),
            ([np.nan], [1]),
            ([[1]], [[1]]),
        ],
    )
    def test_refuses_what_is_not_a_staircase(self, levels, errors):
        """A stored staircase that does not rise strictly, or is not finite, is refused."""
        with pytest.raises(ValueError, match="levels and errors"):
            Staircase(np.array(levels, np.float32), np.array(errors, np.float32))

    def test_many_at_once(self):
        """Staircases that lie one after the other are those, empty ones too, and are checked."""
        sizes = (0, 3, 0, 0, 1, 2, 0)
        one_by_one = [
            Staircase(np.arange(size, dtype=np.float32), np.arange(1, size + 1, dtype=np.float32))
            for size in sizes
        ]
        levels, errors = (
            np.concatenate([getattr(one, part) for one in one_by_one])
            for part in ("levels", "errors")
        )
        assert Staircase.split(levels, errors, np.array(sizes)) == one_by_one
        for place in range(len(levels)):
            for wrong in (np.nan, -1.0):
                changed = errors.copy()
                changed[place] = wrong
                with pytest.raises(ValueError, match="errors above 0"):
                    Staircase.split(levels, changed, np.array(sizes))
        with pytest.raises(ValueError, match="add up"):
            Staircase.split(levels, errors, np.array([2, 3]))

    def test_equality_is_by_value(self):
        """Two staircases with equal breakpoints are equal, others are not."""
        one = Staircase(np.float32([1, 2]), np.float32([0.5, 1]))
        assert one == Staircase(np.float32([1, 2]), np.float32([0.5, 1]))
        assert one != Staircase(np.float32([1, 2]), np.float32([0.5, 1.5]))
        assert one != "staircase"
