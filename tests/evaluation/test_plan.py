"""Which images calibrate and which test."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calibration.layout import PairFiles
from app.errors import BadRequest
from app.evaluation.plan import Plan, make_plan, scene_of, split
from tests.factories import encoded, photo


def items(scenes: list[int | None]) -> list[PairFiles]:
    return [
        PairFiles(f"{k:03}", f"{k}.png", scene=None if g is None else f"g{g}")
        for k, g in enumerate(scenes)
    ]


def images(folder: Path, names: list[str], seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        (folder / name).write_bytes(encoded(photo(seed + k)))
    return folder


class TestSplit:
    @given(
        st.lists(st.none() | st.integers(0, 9), min_size=2, max_size=60),
        st.floats(0.01, 0.99),
        st.integers(0, 2**32),
    )
    def test_no_photograph_is_on_both_sides(self, scenes, share, seed):
        """Every image is on one side, whole scenes together, both sides filled, near the share."""
        every = items(scenes)
        names = {scene_of(item) for item in every}
        if len(names) < 2:
            with pytest.raises(BadRequest, match="two photographs"):
                split(every, share, seed)
            return
        calibration, test = split(every, share, seed)
        assert calibration
        assert test
        assert sorted(i.name for i in (*calibration, *test)) == [i.name for i in every]
        assert not {scene_of(i) for i in calibration} & {scene_of(i) for i in test}
        largest = max(sum(scene_of(i) == name for i in every) for name in names)
        assert abs(len(calibration) - share * len(every)) <= max(largest, 1)

    @given(st.permutations(range(12)), st.integers(0, 100))
    def test_the_order_of_the_images_does_not_matter(self, order, seed):
        """The same images are divided alike in whatever order they were found."""
        every = items([k // 3 for k in range(12)])
        shuffled = [every[k] for k in order]
        assert split(every, 0.5, seed) == split(shuffled, 0.5, seed)

    def test_the_seed_matters(self):
        """Another seed draws other scenes."""
        every = items(list(range(30)))
        assert split(every, 0.5, 0) != split(every, 0.5, 1)


class TestMakePlan:
    def test_given(self, tmp_path):
        """calibration/ and test/ are taken as they are, and shared photographs are counted."""
        for side in ("calibration", "test"):
            folder = images(tmp_path / side, ["a.png", "b.png"], seed=len(side))
            (folder / "manifest.csv").write_text("file,group\na.png,one\nb.png,two\n", "utf-8")
        (tmp_path / "test" / "manifest.csv").write_text("file,group\na.png,two\n", "utf-8")
        plan = make_plan([tmp_path], share=0.5, seed=0)
        assert plan.how == "given"
        assert [item.name for item in plan.test] == ["test/a", "test/b"]
        assert [item.scene for item in plan.test] == ["two", None]
        assert plan.shared == 1

    def test_sub_folders_are_scenes(self, tmp_path):
        """Each sub-folder of images is a photograph."""
        for name in ("sea", "wood", "town"):
            images(tmp_path / name, ["1.png", "2.png"], seed=len(name))
        plan = make_plan([tmp_path], share=0.5, seed=0)
        assert plan.how == "scene"
        assert {i.name for i in (*plan.calibration, *plan.test)} >= {"sea.1", "wood.2"}
        assert plan.shared == 0

    def test_the_manifest_names_scenes(self, tmp_path):
        """By the finest known column, or the one that is asked for."""
        images(tmp_path, [f"{k}.png" for k in range(4)])
        rows = [f"{k}.png,{k},shop" for k in range(4)]
        (tmp_path / "manifest.csv").write_text("\n".join(["file,source_file,source", *rows]))
        assert len({*make_plan([tmp_path], share=0.5, seed=0).test_scenes}) == 2
        with pytest.raises(BadRequest, match="1 photographs"):
            make_plan([tmp_path], share=0.5, seed=0, column="source")

    def test_addresses_are_scenes(self, tmp_path):
        """Nothing is named by the scenes of an evaluation, so whatever a cell holds is one."""
        images(tmp_path, [f"{k}.png" for k in range(4)])
        rows = [f"{k}.png,https://example.org/{'a' * 100}/{k // 2}" for k in range(4)]
        (tmp_path / "manifest.csv").write_text("\n".join(["file,source", *rows]))
        assert len({*make_plan([tmp_path], share=0.5, seed=0).test_scenes}) == 1

    def test_without_a_share(self, tmp_path):
        """Everything tests: there is a calibration already."""
        plan = make_plan([images(tmp_path, ["1.png", "2.png"])], share=None, seed=0)
        assert (len(plan.calibration), len(plan.test)) == (0, 2)

    @pytest.mark.parametrize("inner", ["", "photos"])
    def test_several_folders(self, tmp_path, inner):
        """Images are named by folder, alike or not; a photograph in both stays on one side."""
        folders = [tmp_path / name / inner for name in ("a", "b")]
        for seed, folder in enumerate(folders):
            images(folder, ["1.png", "2.png"], seed=10 * seed)
            (folder / "manifest.csv").write_text("file,group\n1.png,x\n2.png,y\n")
        plan = make_plan(folders, share=0.5, seed=0)
        assert len({i.name for i in (*plan.calibration, *plan.test)}) == 4
        assert {i.name.rpartition("/")[2] for i in plan.test} in ({"1"}, {"2"})
        assert len(plan.test) == 2

    @pytest.mark.parametrize(
        ("manifest", "column", "words"),
        [
            (b"file,group\n1.png,x\n", "shop", "no column 'shop'"),
            (b"\xff\xfe\x00", None, "cannot be read as text"),
            (None, "group", "missing"),
        ],
    )
    def test_manifests_that_cannot_be_used(self, tmp_path, manifest, column, words):
        """The reason is told."""
        images(tmp_path, ["1.png", "2.png"])
        if manifest is not None:
            (tmp_path / "manifest.csv").write_bytes(manifest)
        with pytest.raises(BadRequest, match=words):
            make_plan([tmp_path], share=0.5, seed=0, column=column)


def test_other_images_are_scenes_of_their_own():
    """Nothing known about two images does not make them one photograph."""
    plan = Plan(items([None, 0]), items([None, None, 0]), "given")
    assert len(set(plan.test_scenes)) == 3
    assert plan.shared == 1
