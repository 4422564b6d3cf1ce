"""The detail of a model on the colours of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trustscale_server.images.compression import LOSSLESS, Compression
from trustscale_server.kinds.classes import Kind
from trustscale_server.kinds.features import look_at
from trustscale_server.pixels.align import Agreement, aligned, consistency_db
from trustscale_server.pixels.lab import normalised_lab
from trustscale_server.pixels.resize import resized
from trustscale_server.sampling.align import SOFTNESS, softness_for


def pair(dtype=np.uint8, scale=4):
    """X, and a sample with other tones and invented texture."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:24, 0:40] / 24
    source = np.stack([100 + 60 * np.sin(5 * x), 90 + 50 * np.cos(4 * y), 120 + 30 * x], 2)
    source = np.rint(source).astype(np.uint8)
    large = Image.fromarray(source).resize((40 * scale, 24 * scale), Image.Resampling.BICUBIC)
    sample = np.asarray(large) * 0.8 + 20 + random.normal(0, 8, (24 * scale, 40 * scale, 3))
    sample = np.rint(np.clip(sample, 0, 255)).astype(np.uint8)
    if dtype == np.uint16:
        return source.astype(dtype) * np.uint16(257), sample.astype(dtype) * np.uint16(257)
    return source, sample


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_tones_become_those_of_the_file(dtype, scale):
    """A sample of other tones agrees with its source afterwards, and is as fine as before."""
    source, sample = pair(dtype, scale)
    after = aligned(sample, source, 0)
    assert after.dtype == dtype
    assert consistency_db(sample, source) < 30
    assert consistency_db(after, source) > 38
    shifts = [Agreement.from_pictures(image, source).shift for image in (sample, after)]
    assert shifts[1] < 0.1 * shifts[0]
    fine = [np.diff(image.astype(float), axis=1).std() for image in (sample, after)]
    assert fine[1] > 0.75 * fine[0]


def test_what_aligning_changes():
    """The agreement before and after, and the shift of colours, of a sample of other tones."""
    source, sample = pair()
    found = Agreement.from_pictures(sample, source)
    assert found.db == consistency_db(sample, source)
    assert found.aligned_db == consistency_db(aligned(sample, source, 0), source)
    reduced = resized(sample, source.shape[1::-1], Image.Resampling.BICUBIC)
    means = [normalised_lab(image).mean(axis=(1, 2)) for image in (reduced, source)]
    assert found.shift == pytest.approx(100 * np.abs(means[0] - means[1]).sum())
    assert "aligning helps" in str(found)
    assert "of no use" in str(Agreement.from_pictures(aligned(sample, source, 0), source))


def test_softness_keeps_the_noise_of_the_file_out():
    """Of grain that a model removed, a soft alignment brings back less than an exact one."""
    random = np.random.default_rng(1)
    plain = np.full((32, 32, 3), 120, np.uint8)
    noisy = np.clip(plain + random.normal(0, 8, plain.shape), 0, 255).astype(np.uint8)
    clean = np.full((128, 128, 3), 110, np.uint8)
    exact, soft = (aligned(clean, noisy, softness).astype(float) for softness in (0, 1))
    assert soft.std() < 0.5 * exact.std()
    assert abs(soft.mean() - 120) < 1


def test_an_aligned_sample_stays_as_it_is():
    """What agrees with the file moves by no more than rounding."""
    source, sample = pair()
    once = aligned(sample, source, 0)
    twice = aligned(once, source, 0)
    assert np.abs(twice.astype(int) - once).mean() < 0.5


def test_strips_leave_no_seam():
    """Rows are corrected as in a picture that is corrected at once."""
    source, sample = pair()
    source, sample = np.tile(source, (4, 1, 1)), np.tile(sample, (4, 1, 1))
    reduced = np.asarray(Image.fromarray(sample).resize((40, 96), Image.Resampling.BICUBIC))
    missing = np.clip(source.astype(int) - reduced + 128, 0, 255).astype(np.uint8)
    size = sample.shape[1::-1]
    enlarged = np.asarray(Image.fromarray(missing).resize(size, Image.Resampling.BICUBIC))
    whole = np.clip(sample.astype(int) + enlarged - 128, 0, 255)
    assert np.array_equal(aligned(sample, source, 0), whole)


def test_a_restoration_is_left_alone():
    """At scale 1 the model changes X on purpose."""
    source = pair()[0]
    other = 255 - source
    assert aligned(other, source, 0) is other


def test_what_does_not_belong_together_is_refused():
    """Sizes that are no multiples, and other depths, are errors."""
    source, sample = pair()
    with pytest.raises(ValueError, match="whole number"):
        aligned(sample[:-1], source, 0)
    with pytest.raises(ValueError, match="whole number"):
        aligned(sample.astype(np.uint16), source, 0)


def test_softness_follows_the_class():
    """Only files whose pixels are exact are aligned exactly."""
    seen = look_at(pair()[0], LOSSLESS)
    assert softness_for(replace(seen, kind=Kind("lossless", 0.0))) == 0
    lossy = replace(seen, compression=Compression("jpeg", 60))
    assert softness_for(lossy) == softness_for(None) == SOFTNESS
