"""X from Y."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.factories import photo
from trustscale_server.images.degrade import USUAL, Degradation, Mixture, degrade, make_input
from trustscale_server.images.drawings import Inpaint, holes_of, stream
from trustscale_server.images.facts import UPLOAD, classify, look_at

EXAMPLES = Path(__file__).parents[2] / "examples"

Y = photo(0, 48, 64)


def test_the_default_is_plain_bicubic():
    expected = np.asarray(Image.fromarray(Y).resize((16, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(degrade(Y, 4, Degradation(), 0), expected)
    np.testing.assert_array_equal(degrade(Y, 1, Degradation(), 0), Y)


def test_each_step_changes_the_image():
    fields = [
        {}, {"blur": 1}, {"reduction": "area"}, {"reduction": "lanczos"}, {"enlarged": 1.5},
        {"enlarged": 1.5, "kernel": "bilinear"}, {"enlarged": 1.5, "kernel": "lanczos"},
        {"median": True}, {"sharpened": 1}, {"median": True, "sharpened": 1},
        {"jpeg": 30}, {"before": 30, "jpeg": 90}, {"webp": 30}, {"avif": 30}, {"palette": True},
    ]  # fmt: skip
    steps = [Degradation(**each) for each in fields]
    made = [degrade(Y, 2, step, 0) for step in steps]
    assert {image.shape for image in made} == {(24, 32, 3)}
    assert len({image.tobytes() for image in made}) == len(steps)
    grey = degrade(Y, 1, Degradation(grey=True), 0)
    assert (grey == grey[..., :1]).all()


def test_noise_and_holes_have_streams_of_their_own():
    """The damage repeats no random number that chooses the samples, nor noise those of holes."""
    draws = [stream(7, 1), stream(7, 2), np.random.Generator(np.random.PCG64(7))]
    numbers = np.concatenate([draw.bit_generator.random_raw(1000) for draw in draws])
    assert len(set(numbers.tolist())) == 3000
    assert stream(7, 1).normal() != stream(8, 1).normal()


@pytest.mark.parametrize("shape", ["rectangles", "strokes"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_holes_follow_the_seed_and_reach_their_share(shape, share):
    step = Degradation(inpaint=Inpaint(share=share, shape=shape))
    damaged = degrade(Y, 1, step, 5)
    holes = holes_of(damaged, "#ff00ff")
    assert share <= holes.mean() < 1
    np.testing.assert_array_equal(damaged[~holes], Y[~holes])
    np.testing.assert_array_equal(damaged, degrade(Y, 1, step, 5))
    assert not np.array_equal(damaged, degrade(Y, 1, step, 6))


def test_holes_are_cut_last():
    """Noise and JPEG do not touch the colour that tells the model where the holes are."""
    step = Degradation(noise=9, jpeg=20, inpaint=Inpaint(share=0.2, color="#808080"))
    assert holes_of(degrade(Y, 2, step, 1), "#808080").mean() >= 0.2


class TestMixture:
    def test_each_y_for_each_class(self):
        """The usual mixture makes one X for each class, and most of these are of that class."""
        files = (EXAMPLES / "coast.png", EXAMPLES / "dog.png")
        truths = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        variants = USUAL.variants()
        assert list(variants) == [
            "lossless", "jpeg-90", "jpeg-80", "jpeg-68", "jpeg-50", "jpeg-30",
            "webp-80", "webp-50", "webp-20", "avif-65", "avif-40", "palette",
            "soft/lossless", "bilinear/lossless", "soft/jpeg-80", "bilinear/jpeg-80",
            "soft/jpeg-30", "soft/webp-20", "smoothed/lossless", "smoothed/jpeg-80",
            "denoised/lossless", "denoised/jpeg-80", "lossless/rough",
        ]  # fmt: skip
        for name, part in variants.items():
            made = [make_input(truth, 2, part, seed) for truth in truths for seed in range(4)]
            found = [classify(UPLOAD, look_at(*one)) for one in made]
            assert found.count(name) >= 4, (name, found)

    def test_the_seed_draws(self):
        mixture = Mixture(mixture=[{"weight": 3}, {"reduction": "area"}])
        drawn = [mixture.drawn(seed).reduction for seed in range(400)]
        assert drawn == [mixture.drawn(seed).reduction for seed in range(400)]
        assert 0.66 < drawn.count("bicubic") / 400 < 0.84

    def test_ranges_are_cut_where_classes_begin(self):
        """A range over several classes becomes one component for each, with its share of weight."""
        found = Mixture(mixture=[{"jpeg": (45, 95), "weight": 51}]).variants()
        ranges = {name: part.mixture[0].jpeg for name, part in found.items()}
        assert ranges == {
            "jpeg-30": (45, 49), "jpeg-50": (50, 67), "jpeg-68": (68, 79),
            "jpeg-80": (80, 89), "jpeg-90": (90, 95),
        }  # fmt: skip
        assert sum(part.mixture[0].weight for part in found.values()) == pytest.approx(51)
        twice = Mixture(mixture=[{"before": (60, 70), "jpeg": 95, "blur": 1}]).variants()
        assert {name: part.mixture[0].before for name, part in twice.items()} == {
            "soft/jpeg-30": (60, 70)
        }
