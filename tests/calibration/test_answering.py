"""Which upscalers `auto` answers the inputs of a calibration with."""

from pathlib import Path

import pytest
from PIL import Image

from tests.factories import photo, pictures
from trustscale_server.calibration.answering import in_words, shares
from trustscale_server.calibration.config import CalibrationConfig
from trustscale_server.calibration.intake import find_in
from trustscale_server.errors import ConfigError
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.degrade import USUAL, Degradation
from trustscale_server.images.facts import UPLOAD, classify, look_at
from trustscale_server.settings import TABLE


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
    parts = shares(TABLE, CalibrationConfig(), [], 4)
    assert [part.upscaler for part in parts] == ["span-x4", "realesr-x4"]
    assert parts[0].classes == ["lossless"]
    ways = USUAL.variants()
    assert {*parts[0].classes, *parts[1].classes} == {*ways}
    for part in parts:
        assert part.made_by.variants().keys() == {*part.classes}
        assert sum(len(ways[name].mixture) for name in part.classes) == len(part.made_by.mixture)
    count = len(parts[1].classes)
    assert f"span-x4 (lossless) and realesr-x4 ({count} classes)" in in_words(parts)


def test_one_way_is_looked_at(tmp_path):
    pictures(tmp_path, "0.png", "1.png", side=256)
    config = CalibrationConfig(degradation=Degradation(jpeg=60))
    (part,) = shares(TABLE, config, find_in(tmp_path), 4)
    assert (part.upscaler, part.made_by) == ("realesr-x4", None)


def test_given_inputs(mixed):
    """What nearly all are decides; X is what it is, also where a mixture was named."""
    pairs = mixed(10, 1)
    (part,) = shares(TABLE, CalibrationConfig(), pairs, 4)
    assert (part.upscaler, part.made_by) == ("realesr-x4", None)
    assert in_words([part]) == "auto answers such uploads with realesr-x4"
    table = {"jpeg-*": "other", "*": "realesr-x4"}
    assert shares(table, CalibrationConfig(), pairs, 4)[0].upscaler == "other"


def test_who_is_meant_is_asked(mixed):
    pairs = mixed(3, 2)
    inputs = [look_at(*read) for read in map(_read, pairs)]
    kinds = [classify(UPLOAD, facts) for facts in inputs]
    table = {**dict.fromkeys(kinds[:3], "a"), "*": "b"}
    with pytest.raises(ConfigError, match="Of 5 inputs auto answers 3 with a and 2 with b: name"):
        shares(table, CalibrationConfig(), pairs, 4)


def test_what_cannot_be_read_decides_nothing(mixed):
    """Taking in the pairs tells what is wrong with them."""
    pairs = [pair._replace(x=pair.y) for pair in mixed(2, 0)]
    (part,) = shares(TABLE, CalibrationConfig(), pairs, 4)
    assert part == (TABLE["*"], [], None)


def _read(pair):
    image = decode(Path(pair.x).read_bytes(), PAIR_LIMITS)
    return image.rgb, image.compression
