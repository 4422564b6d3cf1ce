"""The one rule of x/, y/, labels/ and groups, and everything that follows it."""

from __future__ import annotations

import io

import pytest

from app.calibration.archive import ArchiveLimits
from app.calibration.folder import find_pairs
from app.calibration.layout import arrange, placed
from app.calibration.uploads import Naming, archive_files, check_uploaded, spool_pairs
from app.errors import BadPairs, BadRequest
from app.sampling.pipeline import Pipeline
from app.stores.files import FileSpool
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
layouts = pytest.mark.parametrize(("paths", "pairs", "items"), LAYOUTS.values(), ids=LAYOUTS.keys())


def content(path: str) -> bytes:
    """An image of the size that its folder asks for; every one is another."""
    side = 24 if "x/" in path.lower() else 48
    return encoded(photo(sum(path.encode()), side, side))


def laid_out(folder, paths, **texts: str):
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"{}" if path.endswith(".json") else content(path))
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text, "utf-8")
    return folder


def by_name(items) -> dict[str, str]:
    return {item["name"]: item["reason"] for item in items}


def in_words(name: str, y: object, x: object, label: object, group: str | None) -> str:
    """A pair as `LAYOUTS` writes it."""
    files = " ".join(str(file) for file in (y, x, label) if file)
    return f"{name}: {files}" + (f" in {group}" if group else "")


class TestOneRule:
    @layouts
    def test_names(self, paths, pairs, items):
        """What each layout means."""
        found = arrange(map(placed, sorted(paths)))
        words = [
            f"{name}: {' '.join(p for p in (y, x, label) if p)}"
            + (f" in {folder}" if folder else "")
            for name, y, x, label, folder in found.pairs
        ]
        assert (words, by_name(found.items)) == (pairs, items)

    @layouts
    def test_folder(self, tmp_path, paths, pairs, items):
        """A folder is read by it."""
        folder = laid_out(tmp_path, paths)
        if items:
            with pytest.raises(BadPairs) as caught:
                find_pairs(folder)
            assert by_name(caught.value.members["items"]) == items
            return
        found = [
            (p.name, *(f and f.relative_to(folder) for f in (p.y, p.x, p.label)), p.group)
            for p in find_pairs(folder)
        ]
        assert [in_words(*pair) for pair in found] == pairs

    @layouts
    async def test_archive(self, tmp_path, paths, pairs, items):
        """An archive is read by it, and its files are stored under the names of their pairs."""
        spool = FileSpool(tmp_path / "spool")
        files = {path: b"{}" if path.endswith(".json") else content(path) for path in sorted(paths)}
        uploads = archive_files(io.BytesIO(zipped(files)), ArchiveLimits())
        usable, refused = check_uploaded(
            await spool_pairs(uploads, spool, "job"), PIPELINE, Naming()
        )
        assert by_name(refused) == items
        assert [(p.name, p.group) for p in usable] == [
            (pair.split(": ")[0], pair.split(" in ")[1] if " in " in pair else None)
            for pair in pairs
        ]
        for pair in usable:
            assert await spool.get("job", f"y/{pair.name}")
            assert (f"x/{pair.name}" in await spool.names("job")) is pair.x


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
        folder = laid_out(tmp_path, ["y/a.png", "labels/a.png", "labels/predictions.json"])
        (folder / "labels" / "predictions.json").write_text('{"b": "0"}')
        with pytest.raises(BadPairs, match="does not name its prediction"):
            find_pairs(folder)

    def test_nothing(self, tmp_path):
        """An empty folder, a file and a folder that does not exist are told apart from pairs."""
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("x")
        for place, message in (
            ("empty", "no images"),
            ("file", "not a folder"),
            ("missing", "not a folder"),
        ):
            with pytest.raises(BadPairs, match=message):
                find_pairs(tmp_path / place)
