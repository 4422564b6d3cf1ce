"""The one rule of x/, y/, labels/ and groups, and everything that follows it."""

from __future__ import annotations

import io
from typing import ClassVar

import pytest

from app.calibration.archive import ArchiveLimits
from app.calibration.folder import PairFiles, find_pairs
from app.calibration.layout import arrange, placed
from app.calibration.uploads import Naming, archive_files, check_uploaded, spool_pairs
from app.errors import BadPairs, BadRequest
from app.sampling.pipeline import Pipeline
from app.stores.objects import open_blobs
from tests.api.admin import zipped
from tests.factories import encoded, photo

PIPELINE = Pipeline(fingerprint="fake:1", scale=2, samples=4)
ELSEWHERE = "not an image in x/, y/ or labels/ (y/NAME.png, or y/GROUP/NAME.png)"
DEEP = "too many folders below y/ (y/NAME.png, or y/GROUP/NAME.png)"

# Paths; the pairs that they make, as "name: x y label group"; the items that are left out.
LAYOUTS = {
    "truths": (["y/a.png", "y/b.JPG"], ["a: y/a.png", "b: y/b.JPG"], {}),
    "pairs of any suffix": (["x/a.webp", "y/a.png"], ["a: y/a.png x/a.webp"], {}),
    "labels": (
        ["y/a.png", "y/b.png", "labels/b.png", "labels/predictions.json"],
        ["a: y/a.png", "b: y/b.png labels/b.png"],
        {},
    ),
    "inside one folder": (["set/x/a.png", "set/y/a.png"], ["a: set/y/a.png set/x/a.png"], {}),
    "written large": (["X/a.png", "Y/a.png"], ["a: Y/a.png X/a.png"], {}),
    "groups": (
        ["x/day/a.png", "y/day/a.png", "x/b.png", "y/b.png"],
        ["b: y/b.png x/b.png", "day.a: y/day/a.png x/day/a.png in day"],
        {},
    ),
    "images of one folder": (["a.png", "b.png"], ["a: a.png", "b: b.png"], {}),
    "images of one folder below": (["p/a.png", "p/b.png"], ["a: p/a.png", "b: p/b.png"], {}),
    "images of several folders": (
        ["p/a.png", "q/b.png"],
        [],
        {"p/a.png": ELSEWHERE, "q/b.png": ELSEWHERE},
    ),
    "images beside folders": (["a.png", "y/b.png"], ["b: y/b.png"], {"a.png": ELSEWHERE}),
    "images beside inputs": (
        ["a.png", "x/a.png"],
        [],
        {"a.png": ELSEWHERE, "a": "y/ has no image of this name"},
    ),
    "another folder": (["z/a.png", "y/b.png"], ["b: y/b.png"], {"z/a.png": ELSEWHERE}),
    "too deep": (
        ["p/q/y/a.png", "y/day/dusk/a.png"],
        [],
        {"p/q/y/a.png": ELSEWHERE, "y/day/dusk/a.png": DEEP},
    ),
    "no partner": (
        ["x/a.png", "x/b.png", "y/b.png", "y/c.png", "labels/d.png"],
        ["b: y/b.png x/b.png"],
        {
            "a": "y/ has no image of this name",
            "c": "x/ has no image of this name",
            "d": "y/ has no image of this name",
        },
    ),
    "two of a name": (
        ["y/a.png", "y/a.jpg", "y/b.png"],
        ["b: y/b.png"],
        {"a": "several files have this name: y/a.jpg, y/a.png"},
    ),
    "one name from two groups": (
        ["y/a.b/c.png", "y/a/b.c.png"],
        [],
        {"a.b.c": "several files have this name: y/a.b/c.png, y/a/b.c.png"},
    ),
    "no images": (
        ["readme.txt", "y/notes.txt", "y/a.png"],
        ["a: y/a.png"],
        {"y/notes.txt": "not an image file"},
    ),
    "clutter": (["y/a.png", "y/.DS_Store", "__MACOSX/y/a.png", ".old/y/a.png"], ["a: y/a.png"], {}),
    "a name too long": ([f"y/{'ж' * 60}.png"], [], {"ж" * 60: "the name is too long"}),
    "a group with spaces": (
        ["y/ day/a.png"],
        [],
        {" day.a": "the group has no name, or one with spaces around it"},
    ),
}


def laid_out(folder, paths, **texts: str):
    """A folder of images of the sizes that their roles ask for, each another one, and tables."""
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        side = 24 if path.startswith("x/") else 48
        target.write_bytes(encoded(photo(sum(path.encode()), side, side)))
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text, "utf-8")
    return folder


def by_name(items) -> dict[str, str]:
    return {item["name"]: item["reason"] for item in items}


@pytest.mark.parametrize(("paths", "pairs", "items"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_rule(paths, pairs, items):
    """What each layout means."""
    found = arrange(map(placed, sorted(paths)))
    words = [
        f"{name}: {' '.join(path for path in (y, x, label) if path)}"
        + (f" in {folder}" if folder else "")
        for name, y, x, label, folder in found.pairs
    ]
    assert (words, by_name(found.items)) == (pairs, items)


class TestOneRule:
    """Folders and archives are read by it."""

    GOOD = ("x/day/a.webp", "y/day/a.png", "x/b.png", "y/b.png", ".old/y/c.png")
    BAD = ("x/a.png", "x/b.png", "y/b.png", "y/c.png")
    ITEMS: ClassVar = {"a": "y/ has no image of this name", "c": "x/ has no image of this name"}

    def test_folder(self, tmp_path):
        """Pairs with their paths and groups, or an error that names all that makes no pair."""
        folder = laid_out(tmp_path / "good", self.GOOD)
        assert find_pairs(folder) == [
            PairFiles("b", folder / "y/b.png", folder / "x/b.png"),
            PairFiles("day.a", folder / "y/day/a.png", folder / "x/day/a.webp", group="day"),
        ]
        with pytest.raises(BadPairs) as caught:
            find_pairs(laid_out(tmp_path / "bad", self.BAD))
        assert by_name(caught.value.members["items"]) == self.ITEMS

    async def read(self, tmp_path, paths):
        spool = open_blobs(None, tmp_path / "spool")
        folder = laid_out(tmp_path / "set", paths)
        data = zipped({path: (folder / path).read_bytes() for path in paths})
        found = await spool_pairs(archive_files(io.BytesIO(data), ArchiveLimits()), spool, "job")
        return check_uploaded(found, PIPELINE, Naming()), await spool.names("job")

    async def test_archive(self, tmp_path):
        """Its files are stored under the names of their pairs."""
        (usable, items), stored = await self.read(tmp_path, self.GOOD)
        assert [(pair.name, pair.group) for pair in usable] == [("b", None), ("day.a", "day")]
        assert items == []
        assert stored == ["x/b", "x/day.a", "y/b", "y/day.a"]

    async def test_bad_archive(self, tmp_path):
        """What makes no pair is named."""
        (usable, items), _ = await self.read(tmp_path, self.BAD)
        assert [pair.name for pair in usable] == ["b"]
        assert by_name(items) == self.ITEMS


class TestFolder:
    def test_folders_as_groups(self, tmp_path):
        """Asked for, folders of truths are groups; without being asked they are not guessed at."""
        folder = laid_out(tmp_path, ["day/a.png", "day/b.png", "night/a.jpg", ".hidden/a.png"])
        pairs = find_pairs(folder, "folder")
        assert [(p.name, p.group) for p in pairs] == [
            ("day.a", "day"),
            ("day.b", "day"),
            ("night.a", "night"),
        ]
        with pytest.raises(BadPairs, match="not an image in"):
            find_pairs(folder)

    def test_column(self, tmp_path):
        """A column of manifest.csv names the group; a pair that it leaves out has none."""
        table = "file,camera\na.png,old\nb.png,\nmissing.png,new\n"
        folder = laid_out(tmp_path, ["y/a.png", "y/b.png", "y/c.png"], manifest=table)
        pairs = find_pairs(folder, "camera")
        assert [(p.name, p.group) for p in pairs] == [("a", "old"), ("b", None), ("c", None)]

    @pytest.mark.parametrize(
        ("by", "texts", "words"),
        [
            ("camera", {}, "is missing"),
            ("camera", {"manifest": "file,subject\na.png,cat\n"}, "no column 'camera'"),
            ("camera", {"manifest": "file,camera\nb.png,old\n"}, "no pair with a group"),
            ("camera", {"manifest": f"file,camera\na.png,{'x' * 101}\n"}, "more than 100 letters"),
            ("folder", {}, "no pair with a group"),
        ],
    )
    def test_no_groups(self, tmp_path, by, texts, words):
        """Asking for groups that nobody named is an error, not a calibration without them."""
        path = "y/a.png" if by == "folder" else "a.png"
        with pytest.raises((BadRequest, BadPairs), match=words):
            find_pairs(laid_out(tmp_path, [path], **texts), by)

    def test_labels_without_their_prediction(self, tmp_path):
        """Where predictions.json is there, it names the prediction of every label."""
        folder = laid_out(tmp_path, ["y/a.png", "labels/a.png"])
        (folder / "labels" / "predictions.json").write_text('{"b": "0"}')
        with pytest.raises(BadPairs, match="does not name its prediction"):
            find_pairs(folder)

    def test_nothing(self, tmp_path):
        """An empty folder, a file and a folder that does not exist are told apart from pairs."""
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("x")
        messages = {"empty": "no images", "file": "not a folder", "missing": "not a folder"}
        for place, message in messages.items():
            with pytest.raises(BadPairs, match=message):
                find_pairs(tmp_path / place)
