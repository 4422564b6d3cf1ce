"""Images, and evaluations that are made once for all tests that read them."""

import asyncio

import pytest

from harness.factories import encoded, photo
from harness.fakes import FakeUpscaler
from tests.cli.conftest import place, run, upscaler  # noqa: F401 - fixtures of the command
from trustscale_evaluation import report
from trustscale_evaluation.conduct import conduct
from trustscale_evaluation.plan import make_plan
from trustscale_evaluation.run import Options
from trustscale_evaluation.samples import SampleCache
from trustscale_evaluation.variants import Variant, paper, served
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibration.guarantee_kinds import Expectation
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.sampling.sigma.estimators import IndecisionSettings

ALPHAS = (0.1, 0.2, 0.3)
QUICK = {"with_earlier": False, "with_pictures": False}


def photographs(folder, count, *, side=48, crops=2):
    """A folder of `count` photographs with some images of each, named by a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file,scene"]
    for k in range(count):
        for crop in range(crops):
            name = f"{k:03}-{crop}.png"
            (folder / name).write_bytes(encoded(photo(100 * k + crop, side, side)))
            lines.append(f"{name},photograph {k}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def plain(name="plain", **fields):
    given = {"samples": 4, "input_rule": None, "guarantee": Expectation()}
    return Variant(name, CalibrationConfig(**{**given, **fields}))


def variants():
    mean = plain(
        "mean",
        samples=3,
        prediction="mean",
        indecision=IndecisionSettings("pixel_variance", blur=1.0),
        fidelity=FidelitySettings(blur=2.0, bound=3.0),
    )
    return [*paper(4, 48, 0.1)[:4], mean]


def evaluated(folder, *models, settings=(), **options):
    """The evaluation of a folder of truths, with a cache beside it."""
    plan, cache = make_plan([folder], share=0.7, seed=0), SampleCache(folder.parent / "cache")
    chosen = Options(ALPHAS, 0.2, **{"with_earlier": True, **options})
    return asyncio.run(conduct(models, plan, settings or variants(), cache, chosen))


@pytest.fixture(scope="session")
def findings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    return evaluated(photographs(folder / "photos", 12), FakeUpscaler())


@pytest.fixture(scope="session")
def as_served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    return evaluated(
        photographs(folder / "photos", 3, crops=1),
        FakeUpscaler(),
        settings=served(),
        with_earlier=False,
    )


@pytest.fixture(scope="session")
def written(findings, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    report.write(findings, out)
    return out
