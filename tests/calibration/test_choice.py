"""Which model `auto` takes for a class: by what was measured on scenes that calibrate nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calibration.aside import aside_of, choices
from app.calibration.config import set_aside
from app.calibration.guarantee import Expectation
from app.conformal.fidelity import FidelitySettings
from app.errors import BadRequest
from app.images.facts import UPLOAD
from tests.factories import calibration_of, changed
from tests.fakes import FakeUpscaler

SCENES = {f"{k:03}": f"scene {k // 2}" for k in range(200)}
DENOISED = "denoised/lossless"
AREAS = {f"{k:016x}": 0.5 for k in range(24)}


@given(st.integers(0, 2**32))
def test_whole_scenes_are_set_aside(seed):
    """The seed says which, and neither the order nor the model; of a scene all pairs, or none."""
    found = set_aside(SCENES, seed)
    assert len(found) == 2 * len({SCENES[name] for name in found}) == 60
    assert found == set_aside(dict(reversed(SCENES.items())), seed)
    assert found != set_aside(SCENES, seed + 1)


def test_too_few_scenes():
    """With forty, twenty choose and twenty calibrate; with fewer it is refused in words."""
    forty = {name: SCENES[name] for name in list(SCENES)[:80]}
    assert len(set_aside(forty, 0)) == 2 * 20
    with pytest.raises(BadRequest, match=r"39 scenes are too few .* 40 or more"):
        set_aside(dict(list(forty.items())[:-2]), 0)


async def test_what_is_measured():
    """What each class's own curve trusts of its scenes, by brute force."""
    of_all = await calibration_of(FakeUpscaler(), 30, input_rule=UPLOAD)
    pairs = of_all.measured_pairs()
    settings = {"upscaler": "fake", "pipeline": of_all.pipeline, "default_alpha": 0.2}
    found = aside_of(pairs, guarantee=Expectation(), **settings)
    limit = of_all.of_class(DENOISED).curve.threshold(0.2)
    of_class = [pair for pair in pairs if pair.info.input_class == DENOISED]
    areas = {
        pair.info.pixels_sha256[:16]: np.mean(pair.sigma_quantiles < limit) for pair in of_class
    }
    assert [*found.areas] == [DENOISED]
    assert found.areas[DENOISED] == pytest.approx(areas, abs=0.02)
    assert len(found.photographs) == len(pairs)
    few = aside_of(of_class[:9], guarantee=Expectation(), **settings)
    assert (few.areas, len(few.photographs)) == ({}, 9)


def aside(of_class, photographs=(), **fields):
    """What a calibration's document holds of it, for one class."""
    way = {"alpha": 0.1, "fidelity": FidelitySettings(), "guarantee": {"kind": "expectation"}}
    return {**way, "photographs": list(photographs), "areas": {"jpeg-80": of_class}, **fields}


def moved(mean, spread=0.0):
    """The areas with a difference from half."""
    return {name: 0.5 + mean + spread * (-1) ** k for k, name in enumerate(AREAS)}


@pytest.mark.parametrize(
    ("other", "taken", "words"),
    [
        (aside(moved(0.1)), "sharp", "24 scenes at α = 0.1, trusted are: soft 50%, sharp 60%"),
        (aside(moved(-0.1)), "soft", "sharp 40%"),
        (aside(moved(0)), "soft", "sharp 50%"),
        (aside(moved(0.01, 0.2)), "soft", "within its standard error (± 4.2%)"),
        (aside(moved(0.05, 0.2)), "sharp", "sharp 55%"),
        (aside(dict(list(moved(0.1).items())[:10])), "sharp", "10 scenes"),
        (aside(dict(list(moved(0.1).items())[:9])), None, None),
        (aside(moved(0.1), areas={"other": AREAS}), None, None),
        (aside(moved(0.1), alpha=0.2), None, None),
        (aside(moved(0.1), fidelity=FidelitySettings("structure")), None, None),
        (aside(moved(0.1), guarantee={"kind": "high_probability"}), None, None),
        (None, None, None),
    ],
)
async def test_the_choice(calibration, other, taken, words):
    """What trusts more beyond chance; else the usual one; nothing where it cannot be compared."""
    soft = changed(calibration, upscaler="soft", aside=aside(AREAS))
    sharp = changed(calibration, upscaler="sharp", aside=other)
    found = choices([[soft], [sharp]], lambda name: {"jpeg-80": "soft"}[name])
    if taken is None:
        assert found == {}
    else:
        assert found["jpeg-80"].upscaler == taken
        assert words in found["jpeg-80"].why


@pytest.mark.parametrize("place", [0, 1])
def test_what_chooses_never_calibrates(calibration, place):
    """A photograph that chose and calibrates any active model makes the choice void."""
    known = calibration.manifest.pairs[0].pixels_sha256[:16]
    bare = changed(calibration, pairs=calibration.document["pairs"][1:])
    models = [
        changed(bare, upscaler=name, aside=aside(moved(gain), [known]))
        for name, gain in (("soft", 0), ("sharp", 0.1))
    ]
    orders = [[model] for model in models]
    assert choices(orders, lambda _: "soft")["jpeg-80"].upscaler == "sharp"
    orders[place] = [models[place], calibration]
    assert choices(orders, lambda _: "soft") == {}
