"""X from Y."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from harness.factories import photo
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.kinds.degrade import make_input, subject_of
from trustscale_server.kinds.holes import Inpaint, holes_of
from trustscale_server.kinds.streams import Stream, stream
from trustscale_server.kinds.typical import TYPICAL_UPLOADS

Y = photo(0, 48, 64)


def test_the_default_is_plain_bicubic():
    expected = np.asarray(Image.fromarray(Y).resize((16, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(make_input(Y, 4, Degradation(), 0).pixels, expected)
    np.testing.assert_array_equal(make_input(Y, 1, Degradation(), 0).pixels, Y)


def test_each_step_changes_the_image():
    fields = [
        {}, {"blur": 1}, {"reduction": "area"}, {"reduction": "lanczos"}, {"enlarged": 1.5},
        {"enlarged": 1.5, "kernel": "bilinear"}, {"enlarged": 1.5, "kernel": "lanczos"},
        {"median": True}, {"sharpened": 1}, {"median": True, "sharpened": 1},
        {"jpeg": 30}, {"before": 30, "jpeg": 90}, {"webp": 30}, {"avif": 30}, {"palette": True},
        {"before": 30, "shrunk": 1.5}, {"motion": 3}, {"enlarged": 1.5, "patch": True},
        {"jpeg": 30, "decoded": True},
    ]  # fmt: skip
    steps = [Degradation(**each) for each in fields]
    made = [make_input(Y, 2, step, 0).pixels for step in steps]
    assert {image.shape for image in made} == {(24, 32, 3)}
    assert len({image.tobytes() for image in made}) == len(steps)
    grey = make_input(Y, 1, Degradation(grey=True), 0).pixels
    assert (grey == grey[..., :1]).all()


def test_noise_and_holes_have_streams_of_their_own():
    """The damage repeats no random number that chooses the samples, nor noise those of holes."""
    draws = [
        stream(7, Stream.NOISE),
        stream(7, Stream.HOLES),
        np.random.Generator(np.random.PCG64(7)),
    ]
    numbers = np.concatenate([draw.bit_generator.random_raw(1000) for draw in draws])
    assert len(set(numbers.tolist())) == 3000
    assert stream(7, Stream.NOISE).normal() != stream(8, Stream.NOISE).normal()


@pytest.mark.parametrize("shape", ["rectangles", "strokes"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_holes_follow_the_seed_and_reach_their_share(shape, share):
    step = Degradation(inpaint=Inpaint(share=share, shape=shape))
    damaged = make_input(Y, 1, step, 5).pixels
    holes = holes_of(damaged, "#ff00ff")
    assert share <= holes.mean() < 1
    np.testing.assert_array_equal(damaged[~holes], Y[~holes])
    np.testing.assert_array_equal(damaged, make_input(Y, 1, step, 5).pixels)
    assert not np.array_equal(damaged, make_input(Y, 1, step, 6).pixels)


def test_holes_are_cut_last():
    """Noise and JPEG do not touch the colour that tells the model where the holes are."""
    step = Degradation(noise=9, jpeg=20, inpaint=Inpaint(share=0.2, color="#808080"))
    assert holes_of(make_input(Y, 2, step, 1).pixels, "#808080").mean() >= 0.2


class TestMixture:
    def test_each_y_in_each_way(self):
        """The typical mixture has at most twenty ways, each with a share; every one can be made."""
        ways = TYPICAL_UPLOADS.variants()
        assert len(ways) <= 20
        assert {way: TYPICAL_UPLOADS.share(way) for way in ways}.items() >= {
            "lossless": 24,
            "page": 3,
        }.items()
        for way, part in ways.items():
            made = make_input(subject_of(Y, 4, part, 1), 4, part, 1)
            assert made.pixels.shape == (12, 16, 3), way
            again = make_input(subject_of(Y, 4, part, 1), 4, part, 1)
            np.testing.assert_array_equal(made.pixels, again.pixels)

    def test_ways_and_shares(self):
        """Components of one way are alternatives; without a name the last file names it."""
        parts = [{}, {"jpeg": 80}, {"before": 70, "webp": 80}, {"webp": 90, "decoded": True}]
        parts += [{"palette": True}, {"way": "mine", "blur": 1}, {"way": "mine"}]
        mixture = Mixture(mixture=parts, shares={"jpeg": 3})
        assert {way: len(part.mixture) for way, part in mixture.variants().items()} == {
            "lossless": 2, "jpeg": 1, "webp": 1, "palette": 1, "mine": 2
        }  # fmt: skip
        assert [mixture.share(way) for way in ("jpeg", "mine")] == [3, 1]
        with pytest.raises(ValidationError, match="not in the mixture"):
            Mixture(mixture=parts, shares={"avif": 2})


def test_what_the_truth_becomes():
    """Its luma, a drawing, or a page with a part of it; else it is the same array."""
    assert subject_of(Y, 4, Degradation(), 0) is Y
    grey, drawing, page = (
        subject_of(Y, 4, Degradation(subject=subject), 3) for subject in ("grey", "drawing", "page")
    )
    assert (grey == grey[..., :1]).all()
    assert 0.05 < (page == Y).all(axis=2).mean() < 0.9
    assert ((page == Y) | (page == drawing)).all(axis=2).all()
    assert not (drawing == subject_of(Y, 4, Degradation(subject="drawing"), 4)).all()


def test_decoded_files_keep_the_place():
    """A picture that was cut from a file and saved without loss lies where it lay."""
    made = make_input(Y, 2, Degradation(webp=95, decoded=True), 5)
    plain = make_input(Y, 2, Degradation(), 5).pixels
    assert made.compression == LOSSLESS
    assert made.pixels.shape == plain.shape
    assert np.abs(made.pixels.astype(int) - plain).mean() < 8
