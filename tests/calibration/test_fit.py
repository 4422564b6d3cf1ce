"""Fitting σ while calibrating, and calibrations that carry a fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.admin import Admin, truth_files
from harness.factories import encoded, photo
from harness.gateway import check_problem, post
from tests.api.conftest import *  # noqa: F403 - its gateways
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.fit_split import fit_split
from trustscale_server.kinds import classes, features
from trustscale_server.sampling.sigma import fitting
from trustscale_server.upscalers.base import image_digest

FILES = truth_files(24)
DIGESTS = {image_digest(photo(k, 48, 48))[:16]: name for k, name in enumerate(FILES)}
FITTED = {"estimator": "fitted", "fit": {"weights": [["slope@0", 1.0]]}}
OF_A_CLASS = {"weights": [["slope@0", 1.0]], "classes": ["lossless"]}
SCENES = {f"{k:03}": f"scene {k // 2}" for k in range(200)}


class TestShares:
    @given(st.integers(0, 2**32), st.sampled_from([0.2, 0.3, 0.9]))
    def test_whole_scenes_are_fitted_on(self, seed, share):
        """Of a scene all crops are fitted on, or none; the seed says which, and nothing else."""
        found = fit_split(SCENES, share, seed)
        assert found.scenes == round(share * 100)
        assert len(found.fitted) == 2 * found.scenes
        assert len({SCENES[name] for name in found.fitted}) == found.scenes
        assert found == fit_split(dict(reversed(SCENES.items())), share, seed)

    def test_few_scenes_are_kept_for_the_calibration(self):
        """A fit on fewer than it needs would cost more than it gives, and the reason is told."""
        few = {name: SCENES[name] for name in list(SCENES)[:60]}
        found = fit_split(few, 0.3, 0)
        assert found.fitted == frozenset()
        assert f"at least {fitting.MIN_SCENES}" in found.note
        assert fit_split(SCENES, 0, 0).note is None


@pytest.mark.parametrize(
    "config",
    [{"fit_indecision": 0.95}, {"fit_indecision": -0.1},
     {"fit_indecision": 0.3, "indecision": {"estimator": "departure"}},
     {"fit_indecision": 0.3, "fidelity": {"metric": "semantic"}},
     {"indecision": {**FITTED, "fits": [OF_A_CLASS]}, "input_rule": None}],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(config):
    """A share that leaves nothing, a σ that is given, an error that people mark, no classes."""
    with pytest.raises(ValidationError):
        CalibrationConfig(**config)


@pytest.fixture
def admin(start):
    return Admin(start(calibrations=()))


def test_a_calibration_with_its_own_fit(admin):
    """It is fitted on its share, calibrated on the rest, and serves, without generating twice.

    A photograph that was fitted on never calibrates: its error is known to σ, so it cannot stand
    for that of a new one.
    """
    plain = {"guarantee": {"kind": "expectation", "robust": 1}}  # few scenes
    made = admin.create(FILES, fit_indecision=0.85, samples=2, activate=True, **plain)
    fit = made["pipeline"]["indecision"]["fit"]
    assert (made["n"], fit["pairs"], fit["scenes"], fit["samples"]) == (4, 20, 20, 2)
    assert len(fit["photographs"]) == 20
    assert set(fit["photographs"]) < set(DIGESTS)
    answer = post(admin.client, alpha=0.3).json()
    assert (answer["samples"], answer["calibration"]) == (2, made["id"])
    number = int(DIGESTS[fit["photographs"][0]][2:5])
    again = {"y/again.webp": encoded(photo(number, 48, 48), "WEBP", lossless=True)}
    problem = check_problem(admin.post_files(again, f"/{made['id']}/pairs"), "bad-pairs")
    assert problem["items"] == [{"name": "again", "reason": "σ was fitted on this photograph"}]


def test_a_fit_of_a_class(admin, monkeypatch):
    """Pairs of its classes calibrate, and requests are answered, as if there were no other fit.

    All others are measured as if there were no fit of a class. Photographs of either fit calibrate
    nothing.
    """
    monkeypatch.setattr(features, "kind_of", lambda *_: classes.Kind("lossless", -3.0))
    general, own = ({"weights": [[term, 0.5]]} for term in ("slope@0", "residual@0"))

    def answered(fit, *fits):
        indecision = {"estimator": "fitted", "fit": fit, "fits": fits}
        fields = {"samples": 1, "indecision": indecision, "activate": True, "force": True}
        made = admin.create(truth_files(20), **fields)
        answer = post(admin.client, alpha=0.3, seed=5).json()
        return made, [answer[name] for name in ("threshold", "trusted_fraction", "input_class")]

    plain, own_alone = answered(general)[1], answered(own)[1]
    assert plain[:2] != own_alone[:2]
    name = plain[2]["name"]
    made, found = answered(general, own | {"classes": [name], "photographs": [*DIGESTS][23:]})
    assert found == own_alone
    assert answered(general, own | {"classes": ["jpeg-30"]})[1] == plain
    again = {"y/again.webp": encoded(photo(23, 48, 48), "WEBP", lossless=True)}
    problem = check_problem(admin.post_files(again, f"/{made['id']}/pairs"), "bad-pairs")
    assert problem["items"] == [{"name": "again", "reason": "σ was fitted on this photograph"}]


def test_too_few_scenes_keep_the_default(admin):
    """All pairs calibrate under the plain σ, and the calibration says why."""
    made = admin.create(truth_files(4), fit_indecision=0.3, samples=1)
    assert made["n"] == 4
    assert made["pipeline"]["indecision"]["estimator"] == "departure"
    assert "σ was not fitted" in made["provenance"]["note"]
