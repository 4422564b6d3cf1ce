"""The score of what was added, and the safe copy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import scipy
from PIL import Image

from harness.factories import photo
from trustscale_server.conformal.added import STEPS
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.kinds.classes import Kind
from trustscale_server.kinds.features import look_at
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.sigma import added_score
from trustscale_server.sampling.sigma.added_score import (
    UNCHANGED,
    invented,
    luma,
    safe_copy,
    score_added,
)


def example(scale=4, height=40, width=52):
    """X, Y, and a picture with a sharpened left half and texture added on the right."""
    truth = photo(3, scale * height, scale * width)
    size = width, height
    source = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.BICUBIC))
    enlarged = Enlarged(source, scale)[:].astype(float)
    made = enlarged + 0.8 * (truth - enlarged)
    noise = np.random.default_rng(0).normal(0, 14, made.shape[:2])[..., None]
    half = made.shape[1] // 2
    made[:, half:] = enlarged[:, half:] + noise[:, half:]
    return source, truth, np.rint(np.clip(made, 0, 255)).astype(np.uint8)


def looked_at(source, made, **options):
    return score_added(source, made, look_at(source, LOSSLESS), **options)


def test_real_detail_scores_lower_than_invented_texture():
    """The sharpened half is less doubtful than the half with noise, and keeps more of itself."""
    source, truth, made = example()
    added, wrong = looked_at(source, made), invented(source, made, truth)
    half = added.codes.shape[1] // 2
    visible = added.codes != UNCHANGED
    left, right = (visible[:, :half], visible[:, half:])
    assert wrong[:, 2 : half - 2].mean() < 0.2 < 0.7 < wrong[:, half + 2 :].mean()
    assert added.codes[:, :half][left].mean() < added.codes[:, half:][right].mean()
    assert added.weights[:, : half - 2].mean() > added.weights[:, half + 2 :].mean()


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 37, 51), (3, 30, 41), (4, 21, 17)])
def test_sizes_that_are_no_multiples_of_cells(scale, height, width):
    """Every pixel belongs to a cell, whatever the scale is."""
    source, _, made = example(scale, height, width)
    added = looked_at(source, made)
    rows, columns = (-(-side // 4) for side in made.shape[:2])
    assert added.codes.shape == added.energy.shape == added.weights.shape == (rows, columns)
    assert ((added.codes < STEPS) | (added.codes == UNCHANGED)).all()
    assert safe_copy(source, made, added.weights).shape == made.shape


def test_threads_change_nothing():
    """Strips may come in any order."""
    source, _, made = example(4, 150, 40)
    alone = looked_at(source, made)
    with ThreadPoolExecutor(3) as threads:
        together = looked_at(source, made, map_fn=threads.map)
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_strips_agree_with_the_whole():
    """A cell's energy is the mean of a² over its 16 pixels, also where strips meet."""
    source, _, made = example(4, 150, 24)
    light = Image.fromarray(luma(source)).resize((96, 600), Image.Resampling.BICUBIC)
    squares = (luma(made) - np.asarray(light)) ** 2
    expected = squares.reshape(150, 4, 24, 4).mean(axis=(1, 3))
    assert looked_at(source, made).energy == pytest.approx(expected, abs=1e-6)


def test_coarse_features_are_those_of_the_whole(monkeypatch):
    """What is interpolated for a strip is what all of it would be there, to the bit."""
    source, _, made = example(4, 150, 40)
    in_strips = looked_at(source, made)
    monkeypatch.setattr(added_score, "_ROWS", 1000)
    for strips, whole in zip(in_strips, looked_at(source, made), strict=True):
        assert np.array_equal(strips, whole)


def test_a_plain_enlargement_adds_nothing():
    """All of it is unchanged, and the safe copy is the enlargement."""
    source, _, _ = example()
    plain = Enlarged(source, 4)[:]
    added = looked_at(source, plain)
    assert (added.codes == UNCHANGED).all()
    assert np.abs(safe_copy(source, plain, added.weights).astype(int) - plain).max() <= 2


@pytest.mark.parametrize(("was_soft", "follows"), [(False, False), (True, True)])
def test_a_file_without_fine_detail_lacks_none(was_soft, follows):
    """Of a blurred scene the copy stays near the enlargement; of a blurred upload it may not."""
    scene = photo(3, 160, 208).astype(np.float32)
    truth = scipy.ndimage.gaussian_filter(scene, (5, 5, 0))
    source = np.rint(truth[2::4, 2::4]).astype(np.uint8)
    plain = Enlarged(source, 4)[:].astype(np.float32)
    sharpened = plain + 6 * (plain - scipy.ndimage.gaussian_filter(plain, (3, 3, 0)))
    made = np.rint(np.clip(sharpened, 0, 255)).astype(np.uint8)
    features = look_at(source, LOSSLESS)
    kind = Kind("soft" if was_soft else "lossless", -9.0)
    weights = score_added(source, made, replace(features, kind=kind)).weights
    assert (weights.mean() > 100) == follows, weights.mean()


def test_the_safe_copy_mixes_by_weight():
    """A weight of 255 keeps the picture, 0 the enlargement, and there is no border between."""
    source, _, made = example()
    shape = made.shape[0] // 4, made.shape[1] // 4
    full = safe_copy(source, made, np.full(shape, 255, np.uint8))
    none = safe_copy(source, made, np.zeros(shape, np.uint8))
    assert np.array_equal(full, made)
    assert np.abs(none.astype(int) - Enlarged(source, 4)[:]).max() <= 2
    wide = made.astype(np.uint16) * np.uint16(257)
    assert (
        safe_copy(
            source.astype(np.uint16) * np.uint16(257), wide, np.full(shape, 255, np.uint8)
        ).dtype
        == "uint16"
    )
