"""Which upscalers `auto` answers the inputs of a calibration with."""

from dataclasses import replace

import pytest
from PIL import Image

from harness.factories import photo, pictures
from trustscale_server.bootstrap.fields import DEFAULT_ROUTING
from trustscale_server.calibrating import routing
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibrating.routing import answered_uploads, answering_in_words
from trustscale_server.kinds.classes import class_of_way
from trustscale_server.kinds.degradation import Component, Mixture
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.base import routed


@pytest.fixture
def mixed(tmp_path):
    """Pairs of which the first so many inputs are JPEG files, the others without loss."""

    def make(jpegs, others):
        (tmp_path / "x").mkdir()
        pictures(tmp_path / "y", *(f"{k}.png" for k in range(jpegs + others)), side=256)
        for k in range(jpegs + others):
            low = Image.fromarray(photo(k, 256, 256)).reduce(4)
            name, quality = (f"{k}.jpg", {"quality": 60}) if k < jpegs else (f"{k}.png", {})
            low.save(tmp_path / "x" / name, **quality)
        return find_in(tmp_path)

    return make


def test_a_mixture_is_divided():
    """Each upscaler gets the ways of the classes that it answers, and all ways are given out."""
    parts = answered_uploads(DEFAULT_ROUTING, CalibrationConfig(), [], 4)
    assert [part.upscaler for part in parts] == ["span-x4", "realesr-x4-safe"]
    assert "lossless" in parts[0].kinds
    ways = TYPICAL_UPLOADS.variants()
    assert {*parts[0].kinds, *parts[1].kinds} == {*ways}
    for part in parts:
        assert part.made_by.variants().keys() == {*part.kinds}
        assert sum(len(ways[name].mixture) for name in part.kinds) == len(part.made_by.mixture)
        assert all(part.made_by.share(way) == TYPICAL_UPLOADS.share(way) for way in part.kinds)
        assert {routed(DEFAULT_ROUTING, class_of_way(way)) for way in part.kinds} == {part.upscaler}
    words = answering_in_words(parts)
    assert f"and realesr-x4-safe ({len(parts[1].kinds)} kinds of upload)" in words


@pytest.fixture
def by_codec(monkeypatch):
    """Classes are codecs: what the learned table says of such small pictures is not the subject."""
    monkeypatch.setattr(routing, "classify", lambda _, features: features.compression.codec)
    return {"lossless": "span-x4", "*": "realesr-x4"}


def test_own_ways_are_looked_at(tmp_path, by_codec):
    """Nothing says beforehand which class a way of one's own makes."""
    pictures(tmp_path, "0.png", side=256)
    mixture = Mixture(mixture=(Component(way="mine", jpeg=60), Component(way="other")))
    config = CalibrationConfig(degradation=mixture)
    parts = answered_uploads(by_codec, config, find_in(tmp_path), 4)
    assert [(part.upscaler, part.kinds) for part in parts] == [
        ("realesr-x4", ["mine"]),
        ("span-x4", ["other"]),
    ]


def test_given_inputs(mixed, by_codec):
    """What nearly all are decides; X is what it is, also where a mixture was named."""
    (part,) = answered_uploads(by_codec, CalibrationConfig(), mixed(10, 1), 4)
    assert part == ("realesr-x4", ["jpeg"], None)
    assert answering_in_words([part]) == "auto answers such uploads with realesr-x4"


def test_who_is_meant_is_asked(mixed, by_codec):
    words = "Of 5 inputs auto answers 3 with realesr-x4 and 2 with span-x4: name"
    with pytest.raises(ConfigError, match=words):
        answered_uploads(by_codec, CalibrationConfig(), mixed(3, 2), 4)


def test_what_cannot_be_read_decides_nothing(mixed):
    """Taking in the pairs tells what is wrong with them."""
    pairs = [
        replace(pair, paths=dict.fromkeys(("x", "y"), pair.paths["y"])) for pair in mixed(2, 0)
    ]
    assert answered_uploads(DEFAULT_ROUTING, CalibrationConfig(), pairs, 4) == [
        (DEFAULT_ROUTING["*"], [], None)
    ]
