"""Facts about an input, the class that follows, and looks that tell which images are one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from app.images.compression import LOSSLESS, Compression
from app.images.degrade import Degradation, degrade
from app.images.facts import UPLOAD, classify, look_at
from app.images.look import look_of, near_duplicates
from tests.factories import photo

EXAMPLES = Path(__file__).parents[2] / "examples"

JPEG = Compression("jpeg", 75)


def test_facts_move_as_their_names_say():
    """Blur takes detail, noise adds noise, a brighter picture has more light, grey no colour."""
    pixels = photo(1, 96, 96)
    plain = look_at(pixels, LOSSLESS)
    random = np.random.default_rng(0)
    blurred = ndimage.gaussian_filter(pixels, (3, 3, 0))
    noisy = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    assert look_at(blurred, LOSSLESS).detail < plain.detail < look_at(noisy, LOSSLESS).detail
    assert look_at(noisy, LOSSLESS).noise > plain.noise + 1
    assert look_at(pixels // 2, LOSSLESS).light < plain.light
    assert look_at(pixels // 2, LOSSLESS).contrast < plain.contrast
    assert look_at(grey, LOSSLESS).colour == 0 < plain.colour


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (700, 20)])
def test_any_size_has_facts(shape):
    """The smallest and the longest pictures have finite ones."""
    facts = look_at(np.zeros((*shape, 3), np.uint8), LOSSLESS)
    assert np.isfinite(list(facts.numbers().values())).all()


def test_only_the_middle_of_a_large_picture_is_looked_at():
    """What lies far outside changes nothing, so that the cost has a bound."""
    large = np.zeros((1200, 900, 3), np.uint8)
    framed = large.copy()
    framed[:100] = 255
    assert look_at(large, JPEG) == look_at(framed, JPEG)


def larger(pixels, factor, kernel=Image.Resampling.BICUBIC):
    """The same number of pixels, once of fewer."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((round(width / factor), round(height / factor)))
    return np.asarray(small.resize((width, height), kernel))


@pytest.mark.parametrize("compression", [LOSSLESS, JPEG])
@pytest.mark.parametrize("kernel", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_soft_pictures(compression, kernel):
    """Softness rises with the factor of an earlier enlargement and with blur; noise is not soft."""
    pixels = np.asarray(Image.fromarray(photo(2, 512, 512)).resize((128, 128)))
    factors = [pixels, *(larger(pixels, factor, kernel) for factor in (1.5, 2, 3))]
    found = [look_at(each, compression).softness for each in factors]
    assert found == sorted(found)
    assert not is_soft(pixels, compression)
    assert all(is_soft(each, compression) for each in factors[1:])
    assert is_soft(ndimage.gaussian_filter(pixels, (1, 1, 0)), compression)
    noisy = pixels + np.random.default_rng(0).normal(0, 5, pixels.shape)
    assert not is_soft(np.clip(noisy, 0, 255).astype(np.uint8), compression)


def is_soft(pixels, compression):
    return look_at(pixels, compression).look in {"soft", "bilinear"}


@pytest.mark.parametrize("compression", [LOSSLESS, Compression("jpeg", 92)])
@pytest.mark.parametrize(
    ("steps", "look"),
    [
        ({"enlarged": 1.5, "kernel": "bilinear"}, "bilinear"),
        ({"enlarged": 1.5, "kernel": "lanczos"}, "soft"),
        ({"noise": 4, "median": True}, "smoothed"),
        ({"noise": 4, "median": True, "sharpened": 1}, "smoothed"),
        ({}, "sharp"),
        ({"sharpened": 1}, "sharp"),
    ],
)
def test_looks(compression, steps, look):
    """Each is told of most pictures that were made so, and of few others."""
    made = [degrade(truth, 2, Degradation(**steps), seed) for seed, truth in enumerate(examples())]
    found = ["sharp" if one == "rough" else one for one in looks(made, compression)]
    assert found.count(look) >= len(found) - 1, found


def examples():
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(EXAMPLES.glob("*.png"))]


def looks(images, compression):
    return [look_at(image, compression).look for image in images]


def test_classes():
    """The class names the compression and the look; of soft pictures there are fewer qualities."""
    sharp = replace(look_at(photo(), JPEG), softness=0.0, bilinear=1.0, smoothed=-1.0)
    soft = replace(sharp, softness=1.0)
    smoothed = replace(soft, smoothed=1.0)
    every = (sharp, soft, smoothed)
    assert names(every) == ["jpeg-68", "soft/jpeg-30", "soft/jpeg-30"]
    clear = [replace(each, compression=Compression("jpeg", 85)) for each in every]
    assert names(clear) == ["jpeg-80", "bilinear/jpeg-80", "smoothed/jpeg-80"]
    rough = [replace(each, noise=1.5, compression=LOSSLESS) for each in every]
    assert names(rough) == ["lossless/rough", "bilinear/lossless", "smoothed/lossless"]
    assert names([replace(sharp, noise=1.5)]) == ["jpeg-68"]


def names(found):
    return [classify(UPLOAD, each) for each in found]


def test_what_a_score_may_look_at():
    """Loss rises as the quality falls, and is 0 only without loss; codecs are told apart."""
    facts = look_at(photo(), LOSSLESS)
    codecs = (LOSSLESS, ("jpeg", 90), ("jpeg", 40), ("webp", 40), ("palette", None))
    found = [replace(facts, compression=Compression(*codec)).terms() for codec in codecs]
    assert [terms["loss"] for terms in found] == pytest.approx([0, 0.1, 0.6, 0.6, 0.5])
    assert [(terms["lossy"], terms["jpeg"]) for terms in found] == [
        (0, 0), (1, 1), (1, 1), (1, 0), (1, 0)
    ]  # fmt: skip
    assert {terms["softness"] for terms in found} == {round(facts.softness, 3)}


def test_an_unknown_rule():
    """A rule of another version is not applied by guess."""
    with pytest.raises(ValueError, match="must be one of"):
        classify("upload/1", look_at(photo(), LOSSLESS))


class TestLooks:
    def test_copies_and_neighbours(self):
        """The same picture smaller, or as JPEG, or slightly lighter, looks alike; others do not."""
        first = ndimage.zoom(photo(3, 40, 40), (4, 4, 1), order=1)
        smaller = np.asarray(Image.fromarray(first).resize((80, 80)))
        lighter = np.clip(first.astype(int) + 6, 0, 255).astype(np.uint8)
        images = {"a": first, "b": photo(4, 160, 160), "c": smaller, "d": lighter}
        found = near_duplicates([(name, None, look_of(image)) for name, image in images.items()])
        assert found == [["a", "c", "d"]]

    def test_named_scenes_are_not_reported(self):
        """Whoever has named the scene needs no hint; another scene's name does not help."""
        look = look_of(photo(5, 64, 64))
        assert near_duplicates([("a", "s", look), ("b", "s", look)]) == []
        assert near_duplicates([("a", "s", look), ("b", "t", look)]) == [["a", "b"]]

    def test_different_pictures(self):
        """Of a hundred pictures none looks like another."""
        images = [(str(k), None, look_of(photo(k, 64, 64))) for k in range(100)]
        assert near_duplicates(images) == []
        assert near_duplicates([]) == []
