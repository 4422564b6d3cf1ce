"""Decoding and checking pairs; each problem named with its item."""

from __future__ import annotations

import numpy as np
import pytest

from app.calibration.pairs import decode_label, load_pair
from app.errors import BadImage
from app.images.degrade import Degradation, degrade
from app.sampling.pipeline import Pipeline
from tests.factories import encoded, photo

PIPELINE = Pipeline(fingerprint="fake:1", scale=2, samples=4)


def image(seed, side=48):
    return encoded(photo(seed, side, side))


class TestLoad:
    def load(self, y, x=None, **options):
        return load_pair("a", y, x, PIPELINE, **{"degradation": None, "seed": 0, **options})

    def test_the_input_is_made_by_the_degradation(self):
        """Without x the degradation makes it, by bicubic reduction unless it says more."""
        plain = self.load(image(1))
        np.testing.assert_array_equal(
            plain.x, degrade(photo(1, 48, 48), 2, Degradation(), plain.seed)
        )
        grey = self.load(image(1), degradation=Degradation(grey=True)).x
        assert (grey[..., 0] == grey[..., 2]).all()
        noisy = [self.load(image(1), degradation=Degradation(noise=9), seed=s).x for s in (0, 0, 1)]
        np.testing.assert_array_equal(noisy[0], noisy[1])
        assert (noisy[0] != noisy[2]).any()

    def test_the_seed_depends_on_the_content_only(self):
        """The seed follows from the truth and the seed of the calibration, not from the name."""
        one, other = (
            load_pair(name, image(1), None, PIPELINE, degradation=None, seed=5) for name in "ab"
        )
        assert one.seed == other.seed
        assert one.seed not in {self.load(image(1)).seed, self.load(image(2), seed=5).seed}

    def test_truths_are_cropped_to_a_multiple(self):
        """A row that does not fill a pixel of the input is left out."""
        pair = self.load(encoded(photo(1, 49, 51)))
        assert (pair.y.shape, pair.x.shape) == ((48, 50, 3), (24, 25, 3))

    @pytest.mark.parametrize(
        ("y", "x", "reason"),
        [
            (b"text", None, "y: The file is not a PNG"),
            (image(1)[:300], None, "y: The image cannot be decoded"),
            (image(1), b"", "x: The file is empty"),
            (image(1), image(1, 25), "y is 48×48, but 2× the size of x is 50×50"),
            (image(1), image(1), "y is 48×48, but 2× the size of x is 96×96"),
            (encoded(photo(1, 49, 48)), image(1, 24), "y is 48×49"),
            (encoded(photo(1, 1, 48)), None, "smaller than 2 pixels"),
            (image(1, 6), None, "smaller than the window of 7 pixels"),
        ],
    )
    def test_what_cannot_be_used(self, y, x, reason):
        """Each kind of unusable pair says what is wrong with which of its images."""
        with pytest.raises(BadImage) as caught:
            self.load(y, x)
        assert reason in caught.value.detail

    def test_labels(self):
        """A label has the size of y; whatever is not black marks a difference."""
        label = np.zeros((48, 48, 3), np.uint8)
        label[3, 4] = 1
        assert decode_label(encoded(label), (48, 48)).sum() == 1
        with pytest.raises(BadImage, match="label is 24×24, y is 48×48"):
            decode_label(image(1, 24), (48, 48))
