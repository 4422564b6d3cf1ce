"""What nothing can be served from is neither imported nor stored, and said in one line."""

import numpy as np
import pytest

from harness.admin import Admin
from harness.factories import changed, made_of, with_arrays
from harness.gateway import check_problem
from trustscale_server.calibration import file, validation
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.guarantee_kinds import PostHoc
from trustscale_server.kinds.degradation import Mixture
from trustscale_server.platform.errors import BadCalibration


def with_pair(calibration, **fields):
    first, *others = calibration.document["pairs"]
    return changed(calibration, pairs=[{**first, **fields}, *others])


def with_quantile(calibration, value):
    quantiles = calibration.arrays.sigma_quantiles.copy()
    quantiles[1, 50] = value
    return with_arrays(calibration, sigma_quantiles=quantiles)


def half_a_scene(calibration):
    """One upload in one of two ways of making X: half of a scene, so none."""
    mixture = Mixture(mixture=[{}, {"jpeg": 80}])
    way = next(iter(mixture.variants()))
    update = {"name": f"a~{way}", "variant": way}
    return made_of(calibration, [update], fields={"degradation": mixture})


FIELDS = [
    ({"name": "a\ud800"}, "half of a character"),
    ({"mean_log_sigma": 1e308}, "mean_log_sigma"),
    ({"width": 0}, "width"),
    ({"height": -5}, "height"),
    ({"height": 10**9}, "height"),
    ({"seed": -1}, "seed"),
    ({"off": []}, "lacks numbers"),
    ({"off": [0.5]}, "shares of wrong pixels"),
    ({"off": [-1] * 9}, "off"),
    ({"high_sigma": [0.5]}, "high"),
]
WHOLE = [
    ({"created_at": "2026-01-01T00:00:00"}, "created_at"),
    ({"created_at": "0001-01-01T00:00:00+14:00"}, "created_at"),
    ({"default_alpha": float("inf")}, "default_alpha"),
    ({"skipped": [{"name": "a"}]}, "skipped"),
    ({"name": "\udc80"}, "half of a character"),
    ({"guarantee": {"kind": "probability", "tolerance": 9.0}}, "tolerance must be below"),
    ({"guarantee": PostHoc().model_dump(mode="json")}, "how thresholds follow"),
]
CASES = [
    *((lambda one, f=fields: with_pair(one, **f), words) for fields, words in FIELDS),
    *((lambda one, f=fields: changed(one, **f), words) for fields, words in WHOLE),
    (lambda one: with_pair(one, name=one.document["pairs"][1]["name"]), "two pairs are called"),
    (lambda one: with_quantile(one, np.nan), "quantiles"),
    (lambda one: with_quantile(one, np.inf), "quantiles"),
    (lambda one: with_quantile(one, -1), "quantiles"),
    (half_a_scene, "no whole scene"),
]


@pytest.mark.parametrize(("forge", "words"), CASES)
def test_it_is_refused(calibration, forge, words):
    """Whatever no calibration of ours could be is named, though its checksums and id are right."""
    with pytest.raises(BadCalibration, match=words) as caught:
        validation.raise_if_unusable(file.load(file.dump(forge(calibration))))
    assert "\n" not in caught.value.detail


def test_nothing_is_stored(start, calibration):
    """It is no error of the service, and the list of calibrations goes on as before."""
    admin = Admin(start())
    before = admin.get()
    for forge, _ in CASES:
        for activate in (False, True):
            answer = admin.send(
                "POST", "/import", content=file.dump(forge(calibration)),
                params={"activate": activate},
            )  # fmt: skip
            check_problem(answer, "bad-calibration")
    assert admin.get() == before


async def test_what_is_made_here_is_checked_too(calibration):
    """The job, too, stores a calibration only if something can be served from it."""
    with pytest.raises(BadCalibration, match="no whole scene"):
        await Calibrations(None).add(half_a_scene(calibration), activate=False)
