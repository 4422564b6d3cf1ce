"""Text that is found for a mask, by the real detector, and what is read near it."""

import numpy as np
import skimage.data
from PIL import Image

from tests.missing import not_here
from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.serving.finders import LineFinder
from trustscale_server.serving.left_out import LeftOut
from trustscale_server.serving.unread_text import text_of
from trustscale_server.things import reading
from trustscale_server.upscalers.base import Source

SCALE = 4
PIPELINE = MeasurementSpec(
    fingerprint="any:1", scale=SCALE, samples=1, indecision=IndecisionSettings("departure")
)


def test_the_reader_finds_lines():
    """A photographed page has text, which stays inside the picture, and a wall has none."""
    if (missing := reading.missing(ReaderSettings())) is not None:
        not_here(missing)
    page = np.asarray(Image.fromarray(skimage.data.page()).convert("RGB").crop((0, 0, 192, 96)))
    made = np.asarray(Image.fromarray(page).resize((768, 384), Image.Resampling.BICUBIC))
    things = text_of(Source(page), made, PIPELINE, LineFinder())
    assert things
    assert all(thing.kind == "text" for thing in things)
    covered = np.zeros(made.shape[:2], bool)
    for thing in things:
        place, inside = thing.pixels(covered.shape)
        covered[place] |= inside
    assert 0.2 < covered.mean() < 0.95


def test_boxes_are_scaled_with_the_picture():
    """A box in a picture of half the size has half its corners."""
    thing = LeftOut(kind="face", box=[(2, 4), (8, 4), (8, 10), (2, 10)], why="A face.")
    assert thing.enlarged(0.5).box == [(1, 2), (4, 2), (4, 5), (1, 5)]
    place, inside = thing.pixels((12, 12))
    assert place == np.s_[4:11, 2:9]
    assert inside.all()
