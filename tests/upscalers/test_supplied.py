"""Pictures that somebody else enlarged: what fits its input, what is moved, what is refused."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy import ndimage

from trustscale_server.platform.errors import BadImage, UpscalerRejected
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.supplied import SuppliedConfig, SuppliedUpscaler, registered

EXAMPLE = Path(__file__).parents[2] / "examples" / "bridge.png"
SCALE = 4
CONFIG = SuppliedConfig(
    kind="supplied", name="topaz", scale=SCALE, program="Topaz Photo", version="4.0.1"
)


@pytest.fixture(scope="module")
def truth():
    picture = Image.open(EXAMPLE).convert("RGB").resize((384, 384), Image.Resampling.BICUBIC)
    return np.asarray(picture)


@pytest.fixture(scope="module")
def small(truth):
    side = len(truth) // SCALE
    return np.asarray(Image.fromarray(truth).resize((side, side), Image.Resampling.BICUBIC))


def resized(small, resample=Image.Resampling.LANCZOS, scale=SCALE):
    size = (small.shape[1] * scale, small.shape[0] * scale)
    return np.asarray(Image.fromarray(small).resize(size, resample))


def shifted(picture, down, right):
    moved = ndimage.shift(picture.astype(np.float32), (down, right, 0), order=3, mode="nearest")
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def error(one, other):
    inside = np.s_[16:-16, 16:-16]
    return float(np.abs(one[inside].astype(int) - other[inside]).mean())


def test_a_faithful_picture_stays_as_it_is(small, truth):
    """No bit of it changes, whatever made it."""
    for picture in (truth, resized(small), resized(small, Image.Resampling.NEAREST)):
        assert registered(small, picture, SCALE) is picture


@pytest.mark.parametrize("off", [(1.5, 1.5), (-2.0, 0.0), (0.0, 3.0)])
def test_a_part_of_a_pixel_is_moved_back(small, truth, off):
    """As programs disagree on where pixels have their centres, up to a pixel of the input."""
    wrong = shifted(truth, *off)
    right = registered(small, wrong, SCALE)
    assert right.shape == truth.shape
    assert error(right, truth) < 0.4 * error(wrong, truth)


def test_a_picture_without_form_is_taken():
    """A clear sky has no place that could be wrong."""
    flat = np.full((64, 64, 3), 200, np.uint8)
    assert registered(flat[::4, ::4], flat, SCALE) is flat


@pytest.mark.parametrize(
    ("made", "seen"),
    [
        (lambda small, truth: truth[:-4], "384×380 pixels, which is 4×3.958 times 96×96"),
        (lambda small, truth: resized(small, scale=2), "192×192 pixels, which is 2×2 times"),
        (lambda small, truth: truth[:, ::-1], "mirrored"),
        (lambda small, truth: np.rot90(truth), "turned by"),
        (lambda small, truth: resized(small[:72, :72], scale=1), "72×72 pixels"),
        (lambda small, truth: shifted(truth, 0, 12), "shifted by +11.8"),
        (
            lambda small, truth: np.asarray(
                Image.fromarray(truth[:320, :320]).resize((384, 384), Image.Resampling.BICUBIC)
            ),
            "columns 0 to 80 and rows 0 to 80 of 96×96, enlarged 4.8×4.8 times",
        ),
        (
            lambda small, truth: np.random.default_rng(1).integers(0, 256, truth.shape, np.uint8),
            "no part of one was found in the other",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_seen(small, truth, made, seen):
    with pytest.raises(BadImage, match="do not fit") as refused:
        registered(small, np.ascontiguousarray(made(small, truth)), SCALE)
    assert seen in refused.value.detail


def test_what_its_owner_states(small, truth):
    """It is the fingerprint, and nothing else; without the picture there is no answer."""
    topaz = SuppliedUpscaler(CONFIG)
    assert topaz.stated == "Topaz Photo 4.0.1, ×4"
    for change in ({"version": "4.0.2"}, {"settings": "Standard"}, {"scale": 2}):
        other = SuppliedUpscaler(CONFIG.model_copy(update=change))
        assert other.fingerprint != topaz.fingerprint
    renamed = SuppliedUpscaler(CONFIG.model_copy(update={"name": "other"}))
    assert renamed.fingerprint == topaz.fingerprint
    (sample,) = asyncio.run(topaz.generate(Source(small, enlarged=truth), [7]))
    assert sample is truth
    with pytest.raises(UpscalerRejected, match="send the picture that was enlarged"):
        asyncio.run(topaz.generate(Source(small), [7]))


@pytest.mark.parametrize("program", ["", " Topaz", "Topaz\n", "a\0b", "x" * 81])
def test_a_statement_is_a_line(program):
    with pytest.raises(ValidationError):
        SuppliedConfig(kind="supplied", name="topaz", scale=4, program=program)
