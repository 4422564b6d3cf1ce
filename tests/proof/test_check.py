"""Whether a large picture is an enlargement of a small one, and where it contradicts it."""

import io

import numpy as np
import pytest
from PIL import Image

from trustscale_server.pixels.registration import align
from trustscale_server.platform.errors import BadImage
from trustscale_server.proof.check.check import check_pictures
from trustscale_server.proof.check.files import LARGE, memory_of, read_for_check
from trustscale_server.proof.check.report import html_report

BICUBIC = Image.Resampling.BICUBIC


def scene(seed, size=384):
    """A picture with forms of many sizes, uint8 [size, size, 3]."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size, size, 3))
    for cells in (4, 12, 48, 192):
        noise = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        grown = Image.fromarray(noise).resize((size, size), BICUBIC)
        picture += np.asarray(grown, float) / cells**0.35
    picture -= picture.min()
    return (picture * (255 / picture.max())).astype(np.uint8)


TRUTH = scene(1)
LARGE_ONE = Image.fromarray(TRUTH)
SMALL_ONE = LARGE_ONE.resize((96, 96), BICUBIC)
SMALL = np.asarray(SMALL_ONE)


def told_of(large, small=SMALL):
    return check_pictures(small, np.asarray(large)).check


WAYS = {
    "as it was": LARGE_ONE,
    "bicubic": SMALL_ONE.resize((384, 384), BICUBIC),
    "Lanczos, no whole number": SMALL_ONE.resize((317, 317), Image.Resampling.LANCZOS),
    "another aspect": LARGE_ONE.resize((384, 360), BICUBIC),
    "cropped": LARGE_ONE.crop((50, 30, 350, 340)),
    "shifted by parts of a pixel": LARGE_ONE.transform(
        (384, 384), Image.Transform.AFFINE, (1, 0, 1.5, 0, 1, -1.25), BICUBIC
    ).crop((4, 4, 380, 380)),
    "rotated": LARGE_ONE.rotate(1.5, BICUBIC).crop((12, 12, 372, 372)),
    "mirrored": LARGE_ONE.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": LARGE_ONE.transpose(Image.Transpose.ROTATE_90),
    "mirrored, rotated and cropped": LARGE_ONE.rotate(-1, BICUBIC)
    .crop((30, 40, 350, 350))
    .transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


@pytest.mark.parametrize("way", WAYS)
def test_faithful_enlargements(way):
    """Whatever was done to it, it is found, and nothing contradicts."""
    told = told_of(WAYS[way])
    assert told.belong_together, told
    assert told.contradictions == []
    assert told.consistency_db > 27
    assert told.sentences[-1].startswith("Silence proves nothing")


@pytest.mark.parametrize("way", WAYS)
def test_a_foreign_patch(way):
    """It is found where it is, in pixels of the file as it was given, and nowhere else."""
    large = np.array(WAYS[way])
    large[180:228, 140:188] = 255 - large[180:228, 140:188]
    told = told_of(large)
    assert told.belong_together
    assert told.contradictions
    for one in told.contradictions:
        left, top, right, bottom = one.box
        assert 0 <= left < right <= large.shape[1]
        assert 0 <= top < bottom <= large.shape[0]
        assert (left > 128, top > 168, right < 200, bottom < 240) == (True,) * 4
        assert one.times > 1
        assert one.why.startswith("Here the large picture is ")


def test_placements():
    """Scale, mirror, turn and crop are those that were applied."""
    found = told_of(WAYS["Lanczos, no whole number"]).found
    assert found.scale == pytest.approx((317 / 96, 317 / 96), rel=2e-3)
    assert (found.mirrored, found.quarter_turns) == (False, 0)
    assert told_of(WAYS["mirrored"]).found.mirrored
    assert told_of(WAYS["turned"]).found.quarter_turns == 3
    assert told_of(WAYS["rotated"]).found.degrees == pytest.approx(-1.5, abs=0.1)
    placement = align(SMALL_ONE, WAYS["cropped"])
    corner = placement.in_large(np.array([[50 / 4, 30 / 4]]), (300, 310))
    assert corner[0] == pytest.approx((0, 0), abs=0.3)
    assert told_of(WAYS["cropped"]).sentences[0].startswith("The large picture shows ")


def test_an_enlargement_of_all_is_not_moved():
    """What its measurement is unsure by is no shift."""
    placement = align(SMALL_ONE, SMALL_ONE.resize((384, 384), Image.Resampling.LANCZOS))
    assert placement.matrix.tolist() == np.diag([4.0, 4.0, 1.0]).tolist()


def test_how_it_was_reduced():
    """The reduction that comes nearest is named."""
    for name, resample in (("area", Image.Resampling.BOX), ("lanczos", Image.Resampling.LANCZOS)):
        small = np.asarray(LARGE_ONE.resize((96, 96), resample))
        assert told_of(TRUTH, small).found.reduction == name


def test_strangers():
    """Another picture does not belong, nothing else is said of it; an exchange is noticed."""
    told = told_of(scene(2))
    assert (told.belong_together, told.contradictions, told.consistency_db) == (False, [], None)
    assert not told.holds
    told = check_pictures(TRUTH, np.asarray(SMALL_ONE)).check
    assert told.sentences[0].endswith("were they exchanged?")


def test_a_tint():
    """Colours that differ as a whole are told once, and are no contradiction at places."""
    tinted = np.clip(SMALL_ONE.resize((384, 384), BICUBIC) + np.array([14, 0, -10]), 0, 255)
    told = told_of(tinted.astype(np.uint8))
    assert told.contradictions == []
    assert any(sentence.startswith("Its colours differ as a whole") for sentence in told.sentences)


def test_added_detail():
    """Noise finer than the small picture is detail without a source, and no contradiction."""
    plain = SMALL_ONE.resize((384, 384), BICUBIC)
    noise = np.random.default_rng(3).normal(0, 12, (384, 384, 1))
    noisy = np.clip(np.asarray(plain) + noise, 0, 255).astype(np.uint8)
    before, after = told_of(plain), told_of(noisy)
    assert after.contradictions == []
    assert before.added < 3 < 8 < after.added < 13
    heat = Image.open(io.BytesIO(_bytes(after.maps["added"])))
    assert heat.size == (96, 96)


def _bytes(link):
    import base64  # noqa: PLC0415

    head, _, data = link.partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(data)


def test_flat_and_tiny_pictures():
    """Without any form nothing is claimed; too few pixels are refused."""
    flat = np.full((96, 96, 3), 90, np.uint8)
    assert not told_of(np.full((384, 384, 3), 90, np.uint8), flat).belong_together
    with pytest.raises(BadImage, match="16 pixels"):
        check_pictures(SMALL[:8], TRUTH)


def test_a_report():
    """One file without scripts or addresses, in which all places and sentences stand."""
    large = TRUTH.copy()
    large[180:228, 140:188] = 255 - large[180:228, 140:188]
    checked = check_pictures(SMALL, large)
    page = html_report(SMALL, large, checked)
    assert page.count('<i class="place"') == len(checked.check.contradictions)
    assert all(one.why in page for one in checked.check.contradictions)
    assert "<script" not in page
    assert "http" not in page
    assert "do not belong together" in html_report(SMALL, scene(2), check_pictures(SMALL, scene(2)))


def test_reading():
    """Transparent pixels are white; the largest check takes less than 2 GB."""
    out = io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(out, "PNG")
    assert read_for_check(out.getvalue(), LARGE).min() == 255
    assert memory_of((2000, 1500), (8000, 6000)) < 2e9
