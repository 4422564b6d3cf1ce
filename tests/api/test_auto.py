"""`auto`: the upscaler follows from the class of the upload."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from app.calibration.config import CalibrationConfig
from app.images.compression import Compression
from app.images.facts import look_at
from app.serving.auto import TABLE, chosen_for
from app.settings import Settings
from tests.factories import calibration_of, encoded, sharp
from tests.fakes import FakeUpscaler

from .admin import BASE, Admin, truth_files
from .gateway import check_problem, ended, post

FAITHFUL, SHARP = "span-x4", "realesr-x4"
IMAGE = sharp()


def upscalers():
    return [FakeUpscaler(name, fingerprint=f"fake:{name}") for name in (FAITHFUL, SHARP)]


@pytest.fixture
async def calibrations():
    return [await calibration_of(upscaler, 3, side=192) for upscaler in upscalers()]


async def test_it_follows_the_class(serve, calibrations):
    """Lossless: faithful; a JPEG: sharp; whoever names one gets it. The answer says why."""
    async with serve(*upscalers(), calibrations=calibrations) as served:
        png, jpeg = encoded(IMAGE), encoded(IMAGE, "JPEG", quality=60)
        for fields in ({}, {"upscaler": "auto"}):
            made = (await served.post(png, **fields)).json()
            assert (made["upscaler"], made["calibration"]) == (FAITHFUL, calibrations[0].id)
            made = (await served.post(jpeg, **fields)).json()
            assert (made["upscaler"], made["calibration"]) == (SHARP, calibrations[1].id)
            assert "JPEG of quality" in made["chosen"]
        named = (await served.post(jpeg, upscaler=FAITHFUL)).json()
        assert (named["upscaler"], named["chosen"]) == (FAITHFUL, None)
        listed = (await served.client.get("/v1/upscalers")).json()
        assert [row["default"] for row in listed] == [True, True]


async def test_one_is_not_calibrated(serve, calibrations):
    """The other answers in its place, and the answer says so; without any it is no-calibration."""
    jpeg = encoded(IMAGE, "JPEG", quality=60)
    async with serve(*upscalers(), calibrations=calibrations[:1]) as served:
        made = (await served.post(jpeg)).json()
        assert made["upscaler"] == FAITHFUL
        assert f"{SHARP}, for uploads of this class" in made["chosen"]
    async with serve(*upscalers(), calibrations=(), folder="empty") as served:
        check_problem(await served.post(jpeg), "no-calibration")


async def test_without_the_models(serve, calibration):
    """Where an upscaler of the table is not there the first one is the default, and no auto."""
    async with serve() as served:
        assert (await served.post()).json()["chosen"] is None
        check_problem(await served.post(upscaler="auto"), "not-found")


@pytest.mark.parametrize("softness", [0.0, 2.0])
@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize("codec", ["lossless", "jpeg", "webp", "avif", "palette", "other"])
def test_every_class_has_an_upscaler(codec, noise, softness):
    """Lossless, calm and sharp uploads have the faithful one, all others the sharp one."""
    facts = replace(look_at(IMAGE, Compression(codec)), softness=softness, noise=noise)
    name, words, _ = chosen_for(TABLE, {}, facts)
    assert name == (FAITHFUL if (codec, softness, noise) == ("lossless", 0, 0) else SHARP)
    assert words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"auto": {"lossless": FAITHFUL}}, r"no pattern \*"),
        ({"auto": {"*": "other"}}, "there is not"),
        ({"upscalers": [{"name": "auto", "kind": "embedded"}]}, "can be called auto"),
        ({"upscalers": [{"name": "a", "kind": "embedded"}], "default_upscaler": "auto"}, "auto"),
    ],
)
def test_mistakes(settings, words):
    """Each setting that makes no sense is named at the start."""
    with pytest.raises(ValidationError, match=words):
        Settings(**settings)


def test_a_table_of_ones_own():
    """The first pattern that fits counts; a default that is named switches `auto` off."""
    table = {"jpeg-*": FAITHFUL, "*": SHARP}
    facts = replace(look_at(IMAGE, Compression("jpeg", 95)), softness=0.0)
    assert chosen_for(table, {}, facts)[0] == FAITHFUL
    assert Settings(auto=table).auto_table == table
    assert Settings().prefers_auto
    named = Settings(default_upscaler=SHARP)
    assert (named.prefers_auto, named.default) == (False, SHARP)


def test_it_follows_what_is_measured(start):
    """`calibrate --upscaler auto` over HTTP: both from one upload, and answers by the better one.

    The scenes that chose calibrate neither; a setting leaves the choice to the table.
    """
    models = upscalers()
    models[0].strength = 9.0
    table = {"lossless": SHARP, "*": FAITHFUL}
    admin = Admin(start(*models, calibrations=(), auto=table))
    check_problem(admin.post_files(truth_files(39), upscaler="auto"), "bad-request")
    sent = {"samples": 2, "default_alpha": 0.15, "fit_indecision": 0, "activate": True}
    response = admin.post_files(truth_files(90), upscaler="auto", force=True, **sent)
    first, (other,) = admin.made(response), response.json()["also"]
    job = ended(admin.client, f"/v1/jobs/{other}")
    made = [first, admin.get(job["result"].removeprefix(BASE))]
    assert sorted(one["upscaler"] for one in made) == sorted((FAITHFUL, SHARP))
    for one in made:
        calibrating = {pair["pixels_sha256"][:16] for pair in admin.get(f"/{one['id']}/pairs")}
        assert (one["n"], one["state"], len(calibrating)) == (63, "active", 63)
        assert len(one["aside"]["photographs"]) == 27
        assert not calibrating & set(one["aside"]["photographs"])
    rows = {row["name"]: row["chosen_for"] for row in admin.client.get("/v1/upscalers").json()}
    answer = post(admin.client, alpha=0.15).json()
    assert (answer["upscaler"], [*rows[SHARP]]) == (SHARP, ["smoothed/lossless"])
    assert rows[SHARP]["smoothed/lossless"] in answer["chosen"]
    assert "scenes at α = 0.15, trusted are: realesr-x4 " in answer["chosen"]
    more = {"auto": table, "auto_measured": False, "run_jobs": False}
    by_table = start(*models, calibrations=(), **more)
    assert post(by_table, alpha=0.15).json()["upscaler"] == FAITHFUL
    assert by_table.get("/v1/upscalers").json()[1]["chosen_for"] == {}


def test_without_classes_nothing_is_chosen():
    """A calibration that sorts no uploads cannot choose between them."""
    with pytest.raises(ValidationError, match="auto chooses by the classes"):
        CalibrationConfig(upscaler="auto", input_rule=None)
