"""What fewer generations would trust, told by the samples that a calibration drew."""

from __future__ import annotations

import pytest

from app.calibration.manifest import PricePoint
from app.calibration.price import advice, priced, tells, with_fewer
from app.conformal.fidelity import FidelitySettings
from app.conformal.indecision import IndecisionSettings
from app.sampling.pipeline import Pipeline


def test_which_pairs_tell():
    """All of a few, 60 of many, whatever their order."""
    names = [f"pair {k}" for k in range(200)]
    telling = [name for name in names if tells(name, names)]
    assert len(telling) == 60
    assert all(tells(name, names[::-1]) for name in telling)
    assert all(tells(name, names[:60]) for name in names[:60])


def test_which_m_and_sigma():
    """Only an estimator that can do with fewer samples is kept; a fit for M is not one for less."""
    plain = Pipeline(fingerprint="fake:1", scale=2, samples=4)
    fewer = [(one.samples, one.indecision.estimator) for one in with_fewer(plain)]
    assert fewer == [(1, "residual"), (2, "smoothed_variance")]
    patches = plain.model_copy(
        update={"indecision": IndecisionSettings("patch_variance"), "samples": 2}
    )
    assert [one.indecision.estimator for one in with_fewer(patches)] == ["patch_variance"]
    labelled = plain.model_copy(update={"fidelity": FidelitySettings("semantic")})
    assert with_fewer(labelled) == []


@pytest.mark.parametrize(
    ("areas", "words"),
    [
        ({1: 0.5, 2: 0.79, 4: 0.8}, "2 are enough"),
        ({1: 0.795, 2: 0.79, 4: 0.8}, "1 is enough"),
        ({1: 0.5, 2: 0.7, 4: 0.8}, "4 are enough"),
        ({4: 0.8}, None),
    ],
)
def test_advice(areas, words):
    """The smallest M within two hundredths of the best; one M alone says nothing."""
    points = [PricePoint(samples=m, alpha=0.1, trusted_area=area) for m, area in areas.items()]
    told = advice(priced(points, 4, None), 0.1)
    assert told is None if words is None else words in told


def test_calls_and_money():
    """Calls bring several samples where the upscaler can; without a price there is no money."""
    points = [PricePoint(samples=m, alpha=0.1, trusted_area=0.5) for m in (1, 4, 5)]
    assert [row["calls"] for row in priced(points, 4, None)] == [1, 1, 2]
    assert [row["money"] for row in priced(points, 1, 0.5)] == [0.5, 2.0, 2.5]
    assert priced(points, 1, None)[0]["money"] is None
