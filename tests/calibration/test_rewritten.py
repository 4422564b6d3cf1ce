"""Where a model rewrote a photograph most: by structure, not by error."""

import numpy as np
import pytest

from trustscale_server.calibrating.rewritten import badness, worst

SIDE = 320


def stripes(angle, period=11.0, contrast=60.0):
    """A pattern of lines, uint8 [SIDE, SIDE, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    return np.repeat(np.rint(128 + contrast * wave).astype(np.uint8)[..., None], 3, axis=2)


def with_patch(picture, patch, left, top, side=80):
    changed = picture.copy()
    changed[top : top + side, left : left + side] = patch[top : top + side, left : left + side]
    return changed


def test_a_pattern_that_became_another_is_found_and_not_the_largest_error():
    """Lines that turned are worse than a part that is far too bright, which keeps its lines."""
    truth = stripes(0.0)
    bright = np.clip(truth.astype(int) + 90, 0, 255).astype(np.uint8)
    made = with_patch(with_patch(truth, bright, 220, 20), stripes(1.2), 30, 200)
    squares = ((truth.astype(float) - made) ** 2).mean(axis=2)
    assert squares[60, 260] > squares[200:280, 30:110].mean()
    [found] = worst(truth, made)
    left, top, right, bottom = found.box
    assert (right - left, bottom - top) == (128, 128)
    assert left < 70 < right
    assert top < 240 < bottom
    assert found.badness > 0.3


def test_nothing_is_found_where_nothing_can_be_seen():
    """The same picture, a brighter one, a contrast below what is seen, and flat parts."""
    truth = stripes(0.4)
    assert worst(truth, truth) == [] or worst(truth, truth)[0].badness < 1e-6
    faint, other = stripes(0.0, contrast=2), stripes(1.2, contrast=2)
    assert badness(faint, other).max() == 0
    assert badness(truth, np.full_like(truth, 128)).max() == 0  # what is gone is not rewritten


def test_several_places_are_apart_the_worst_first():
    truth = stripes(0.0)
    made = with_patch(with_patch(truth, stripes(1.2), 10, 10), stripes(0.5), 220, 220)
    first, second = worst(truth, made, 2)
    assert first.badness >= second.badness > 0.05
    assert first.box[2] <= second.box[0] or second.box[2] <= first.box[0]


def test_pictures_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        badness(stripes(0.0), stripes(0.0)[:-1])
