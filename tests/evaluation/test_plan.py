"""What is evaluated: variants, and images split so that nothing leaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.factories import pictures
from harness.fakes import FakeUpscaler
from trustscale_evaluation.plan import EvaluationPlan, make_plan, scene_name, split
from trustscale_evaluation.variants import paper, read_variants
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.platform.errors import BadRequest


def items(scenes):
    return [
        PairSource(f"{k:03}", {"y": f"{k}.png"}, scene=None if g is None else f"g{g}")
        for k, g in enumerate(scenes)
    ]


@given(
    st.lists(st.none() | st.integers(0, 9), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
)
def test_no_photograph_is_on_both_sides(scenes, share, seed):
    every = items(scenes)
    names = {scene_name(item) for item in every}
    if len(names) < 2:
        with pytest.raises(BadRequest, match="two photographs"):
            split(every, share, seed)
        return
    calibration, test = split(every, share, seed)
    assert split(every[::-1], share, seed) == (calibration, test)
    assert calibration
    assert test
    assert sorted(i.name for i in (*calibration, *test)) == [i.name for i in every]
    assert not {scene_name(i) for i in calibration} & {scene_name(i) for i in test}
    largest = max(sum(scene_name(i) == name for i in every) for name in names)
    assert abs(len(calibration) - share * len(every)) <= max(largest, 1)


class TestMakePlan:
    def test_given(self, tmp_path):
        for side in ("calibration", "test"):
            folder = pictures(tmp_path / side, "a.png", "b.png", first=len(side))
            (folder / "manifest.csv").write_text("file,group\na.png,one\nb.png,two\n", "utf-8")
        (tmp_path / "test" / "manifest.csv").write_text("file,group\na.png,two\n", "utf-8")
        plan = make_plan([tmp_path], share=0.5, seed=0)
        found = {item.name: item.scene for item in plan.test}
        assert (plan.how, found) == ("given", {"test/a": "two", "test/b": None})

    def test_the_manifest_names_scenes(self, tmp_path):
        pictures(tmp_path, *(f"{k}.png" for k in range(4)))
        rows = [f"{k}.png,{k},shop" for k in range(4)]
        (tmp_path / "manifest.csv").write_text("\n".join(["file,source_file,source", *rows]))
        assert len({*make_plan([tmp_path], share=0.5, seed=0).test_scenes}) == 2
        with pytest.raises(BadRequest, match="1 photographs"):
            make_plan([tmp_path], share=0.5, seed=0, column="source")


def test_images_of_unknown_scenes_are_scenes_of_their_own():
    plan = EvaluationPlan(items([None, 0]), items([None, None, 0]), "given")
    assert (len(set(plan.test_scenes)), plan.shared) == (3, 1)


def test_the_blurs_of_the_paper_are_scaled():
    recipe = next(one for one in paper(8, 512, 0.2) if one.name == "recipe").pipeline(
        FakeUpscaler()
    )
    assert (recipe.indecision.blur, recipe.fidelity.blur, recipe.fidelity.bound) == (16, 16, 3)


def test_read(tmp_path):
    """One table is one variant: a calibration's settings, and what it leaves out is the default."""
    path = tmp_path / "settings.toml"
    path.write_text(
        "[sharp]\nsamples = 4\n[sharp.indecision]\nblur = 0\n"
        '[mean]\nprediction = "mean"\ninput_rule = "none"\nfidelity = {bound = 1.9576}\n'
    )
    sharp, mean = read_variants(path)
    assert (sharp.name, sharp.config.samples, sharp.config.indecision.blur) == ("sharp", 4, 0)
    assert (sharp.config.fidelity.bound, mean.config.fidelity.bound) == (0.25, 1.9576)
    assert (mean.config.prediction, mean.config.input_rule) == ("mean", None)
