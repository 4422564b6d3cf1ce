"""The settings that are compared."""

from __future__ import annotations

import pytest

from app.conformal.indecision import IndecisionSettings
from app.errors import BadRequest
from app.evaluation.variants import paper, read_variants
from tests.fakes import FakeUpscaler, FakeWitness


def test_paper():
    """Uncut, unfitted, without classes; the paper's blurs shrink with the images."""
    model = FakeUpscaler(witness=FakeWitness())
    found = {variant.name: variant for variant in paper([model], 8, 512, 0.2)}
    assert next(iter(found)) == "paper"
    pipelines = {name: variant.pipeline(model) for name, variant in found.items()}
    assert all(one.input_rule is None and one.indecision.fit is None for one in pipelines.values())
    assert all(variant.config.fit_indecision == 0 for variant in found.values())
    own, recipe = pipelines["paper"], pipelines["recipe"]
    assert (own.samples, own.indecision, own.fidelity.bound) == (8, IndecisionSettings(), 1.9576)
    assert (recipe.indecision.blur, recipe.fidelity.blur, recipe.fidelity.bound) == (16, 16, 3)
    assert found["paper, certain"].config.guarantee.delta == 0.2
    names = ("witness", "one call", "no witness")
    assert [pipelines[name].indecision.estimator for name in names] == [
        "witness",
        "witness",
        "residual",
    ]


def test_read(tmp_path):
    """One table is one variant: a calibration's settings, and what it leaves out is the default."""
    path = tmp_path / "settings.toml"
    path.write_text(
        "[sharp]\nsamples = 4\n[sharp.indecision]\nblur = 0\n"
        '[mean]\nprediction = "mean"\ninput_rule = "none"\nfidelity = {bound = 1.9576}\n'
    )
    sharp, mean = read_variants(path)
    assert (sharp.name, sharp.config.samples, sharp.config.indecision.blur) == ("sharp", 4, 0)
    assert (sharp.config.fidelity.bound, mean.config.fidelity.bound) == (0.5, 1.9576)
    assert (mean.config.prediction, mean.config.input_rule) == ("mean", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no settings"),
        ("x", "not a TOML file"),
        ("samples = 3", "not a table"),
        ("[a]\nsamples = 0", "a: samples"),
        ("[a]\nactivate = true", "a: activate is none of"),
        ("[a.indecision]\nestimator = 'guess'", "a: indecision"),
        ("[a.fidelity]\nmetric = 'semantic'", "nobody labels"),
        ("[a.guarantee]\nkind = 'post_hoc'", "one fixed α"),
    ],
)
def test_mistakes(tmp_path, text, words):
    """Each is one sentence that names the variant and the setting."""
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(BadRequest, match=words) as caught:
        read_variants(path)
    assert "\n" not in caught.value.detail
