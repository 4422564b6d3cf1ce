"""Classes that are divided by the score: which curve answers, for which sizes, in which words."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.calibration.insight import leaked
from app.calibration.record import LEAST_DIVIDED, Calibration
from app.conformal.curve import THIRDS
from app.images.compression import LOSSLESS
from app.images.decode import Limits, decode
from app.images.facts import BY_SCORE, UPLOAD, Facts, classify, look_at
from app.serving.promise import Subject, guarantee
from tests.api.gateway import AS_ADMIN, IMAGE, gateway, pixels, post
from tests.factories import calibration_of
from tests.fakes import FakeUpscaler

FACTS = Facts(LOSSLESS, 2.0, 0.0, 3.0, 0.5, 3.0, softness=0.0)


@pytest.fixture(scope="module")
def twenty():
    return asyncio.run(calibration_of(FakeUpscaler(), 20, input_rule=BY_SCORE))


def divided(twenty, n=200, rule=BY_SCORE, names=None, sides=(48,), facts=FACTS):
    """So many pairs of one class, with errors that grow with their scores, -3 to -1."""
    pairs = []
    for k in range(n):
        one = twenty.measured_pairs()[k % 20]
        info = one.info.model_copy(
            update={
                "name": f"{k:03}",
                "scene": None if names is None else f"{k % names}",
                "input_class": classify(UPLOAD, facts),
                "mean_log_sigma": -3 + 2 * k / n,
                "width": sides[k % len(sides)],
            }
        )
        errors = one.staircase.errors / one.staircase.errors[-1] * np.float32((k + 1) / n)
        stairs = replace(one.staircase, errors=errors)
        pairs.append(replace(one, info=info, staircase=stairs))
    pipeline = twenty.pipeline.model_copy(update={"input_rule": rule})
    return Calibration.from_pairs(pairs, upscaler="fake", pipeline=pipeline)


def subject(calibration, side=48):
    return Subject.of(calibration, None, FACTS, size=(side, side))


@pytest.mark.parametrize(
    ("made", "side"),
    [
        ({"rule": UPLOAD}, 48),
        ({"n": LEAST_DIVIDED - 1}, 48),
        ({"names": 180}, 48),
        ({"sides": (48, 64)}, 48),
        ({}, 480),
    ],
    ids=["another rule", "few scenes", "two of a scene", "two sizes", "a larger output"],
)
def test_one_curve_answers_otherwise(twenty, made, side):
    """Without the rule, with few scenes, several pictures of one, or of another size."""
    found = subject(divided(twenty, **made), side)
    assert not found.awaits_score
    assert found.scored(-2.0) is found
    assert found.document.third is None


@pytest.mark.parametrize(("score", "third"), [(-9.0, 0), (-2.0, 1), (0.0, 2)])
def test_the_third_speaks(twenty, score, third):
    """Its scenes alone calibrate, the statement names them, and the sentence says so in words."""
    calibration = divided(twenty)
    found = subject(calibration).scored(score)
    scores = [pair.mean_log_sigma for pair in found.part.manifest.pairs]
    assert found.third == THIRDS[third]
    assert 66 <= found.part.n <= 67
    assert third == 0 or min(scores) > -3 + 2 * third / 3 - 0.02
    promise = guarantee(found, 0.5)
    assert promise.n == found.part.n
    assert f"as hard as this one (the {THIRDS[third]} third by mean log σ)" in promise.statement
    assert "pictures as hard as this one" in promise.sentence
    hard, all_of_them = found.part.curve.threshold(0.1), calibration.curve.threshold(0.1)
    assert third != 2 or hard < all_of_them


def test_all_that_leaked_may_lie_in_one_third(twenty):
    """The weakest bound is that of a third."""
    one, thirds = divided(twenty, rule=UPLOAD), divided(twenty)
    assert leaked(thirds, 10) > leaked(one, 10)
    assert leaked(thirds, 10) == pytest.approx(0.1 * 67 / 57)


def test_an_answer(tmp_path, twenty):
    """Mask and trust levels are those of the third, and the stored result finds its curve again.

    The rule of a calibration that is there can be changed without generating.
    """
    image = decode(IMAGE, Limits())
    facts = look_at(image.rgb, image.compression)
    plain = divided(twenty, rule=UPLOAD, facts=facts)
    app = gateway(tmp_path, FakeUpscaler(), calibrations=[plain])
    with TestClient(app) as client:
        asked = {"input_rule": BY_SCORE, "activate": True, "force": True}
        url = f"/v1/admin/calibrations/{plain.id}/derive"
        made = client.post(url, json=asked, headers=AS_ADMIN)
        assert made.status_code == 201, made.text
        assert client.post(url, json={"input_rule": UPLOAD}, headers=AS_ADMIN).status_code == 409
        answer = post(client, alpha=0.1, seed=3).json()
        third, part = divided(twenty, facts=facts).of_third(answer["input_class"]["mean_log_sigma"])
        assert (answer["input_class"]["third"], answer["guarantee"]["n"]) == (third, part.n)
        assert answer["calibration"] == made.json()["id"]
        assert answer["threshold"] == part.curve.threshold(0.1) != plain.curve.threshold(0.1)
        mask, trust = (client.get(answer["links"][name]).content for name in ("mask", "trust"))
        codes = pixels(trust).astype(np.uint16)
        assert (pixels(mask) == part.curve.mask_of_code(codes, 0.1)).all()
        assert pixels(mask).mean() == answer["trusted_fraction"]
        other = client.get(f"{answer['links']['mask']}?alpha=0.05").content
        assert (pixels(other) == part.curve.mask_of_code(codes, 0.05)).all()
