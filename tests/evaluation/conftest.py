"""Images, and an evaluation that is made once for all tests that read it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.evaluation import report
from app.evaluation.cache import SampleCache
from app.evaluation.conduct import Findings, conduct
from app.evaluation.plan import make_plan
from app.evaluation.run import Options
from app.evaluation.variants import Variant
from tests.cli.conftest import place, run, upscaler  # noqa: F401 - fixtures of the command
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler

ALPHAS = (0.1, 0.2, 0.3)


def photographs(folder: Path, count: int, *, side: int = 48, crops: int = 2) -> Path:
    """A folder of `count` photographs with some images of each, named by a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file,source_file"]
    for k in range(count):
        for crop in range(crops):
            name = f"{k:03}-{crop}.png"
            (folder / name).write_bytes(encoded(photo(100 * k + crop, side, side)))
            lines.append(f"{name},photograph {k}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def variants() -> list[Variant]:
    """Two σ, three D."""
    return [
        Variant(name="default", samples=4),
        Variant(name="blurred", samples=4, fidelity={"blur": 2.0, "bound": 3.0}),
        Variant(
            name="pointwise",
            samples=3,
            prediction="mean",
            indecision={"estimator": "pixel_variance", "blur": 1.0},
            fidelity={"metric": "pointwise"},
        ),
    ]


def evaluated(
    folder: Path, *models: FakeUpscaler, settings: Sequence[Variant] = (), **options: object
) -> Findings:
    """The evaluation of a folder of truths, with a cache beside it."""
    plan, cache = make_plan([folder], share=0.7, seed=0), SampleCache(folder.parent / "cache")
    chosen = Options(ALPHAS, 0.2, **options)
    return asyncio.run(conduct(models, plan, settings or variants(), cache, chosen))


@pytest.fixture(scope="session")
def findings(tmp_path_factory) -> Findings:
    """20 photographs, two images of each."""
    folder = tmp_path_factory.mktemp("evaluated")
    return evaluated(photographs(folder / "photos", 20), FakeUpscaler(), samples=(1, 4))


@pytest.fixture(scope="session")
def written(findings, tmp_path_factory) -> Path:
    """The folder of its report."""
    out = tmp_path_factory.mktemp("report")
    report.write(findings, out)
    return out
