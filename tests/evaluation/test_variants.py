"""The settings that are compared."""

from __future__ import annotations

import pytest

from app.conformal.indecision import IndecisionSettings
from app.errors import BadRequest
from app.evaluation.variants import builtin, read_variants
from app.upscalers.embedded import EmbeddedUpscaler
from tests.fakes import FakeUpscaler


def test_builtin():
    """The paper's blurs shrink with the images; errors are shown uncut and as they are promised."""
    default, paper, paper_sigma, residual, pointwise, counted = builtin(8, 512)
    own = default.for_upscaler(FakeUpscaler(kind="http"))
    assert (own.samples, own.indecision, paper.samples) == (1, IndecisionSettings("residual"), 8)
    assert default.for_upscaler(EmbeddedUpscaler("span-x4")).indecision.estimator == "fitted"
    assert (paper.indecision.blur, paper.fidelity.blur, paper.fidelity.bound) == (16, 16, 3)
    assert paper_sigma.indecision == paper.indecision
    assert (residual.samples, residual.indecision.needs_witness) == (1, False)
    assert pointwise.fidelity.metric == "pointwise"
    assert (default.fidelity.bound, counted.fidelity.bound) == (1.9576, 0.5)


def test_read(tmp_path):
    """One table is one variant; what it leaves out is the default."""
    path = tmp_path / "settings.toml"
    path.write_text(
        '[sharp]\nsamples = 4\n[sharp.indecision]\nblur = 0\n[mean]\nprediction = "mean"\n'
    )
    sharp, mean = read_variants(path)
    assert (sharp.name, sharp.samples, sharp.indecision.blur) == ("sharp", 4, 0)
    assert (mean.prediction, mean.indecision) == ("mean", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no settings"),
        ("x", "not a TOML file"),
        ("samples = 3", "not a table"),
        ("[a]\nsamples = 0", "a: samples"),
        ("[a]\nfoo = 1", "a: foo"),
        ("[a.indecision]\nestimator = 'guess'", "a: indecision"),
        ("[a.fidelity]\nmetric = 'semantic'", "colours"),
    ],
)
def test_mistakes(tmp_path, text, words):
    """Each is one sentence that names the variant and the setting."""
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(BadRequest, match=words) as caught:
        read_variants(path)
    assert "\n" not in caught.value.detail
