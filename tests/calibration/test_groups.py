"""Groups as folders, tables and requests name them."""

from __future__ import annotations

import io

import pytest

from app.calibration.archive import ArchiveLimits, Entry
from app.calibration.groups import find_grouped_pairs, parse_groups
from app.calibration.uploads import UploadedFile, UploadedPairs, archive_files, check_uploaded
from app.errors import BadPairs, BadRequest
from app.sampling.pipeline import Pipeline
from tests.api.admin import zipped
from tests.factories import encoded, photo

PIPELINE = Pipeline(fingerprint="fake:1", scale=2, samples=4)
IMAGE = encoded(photo(0))


def laid_out(folder, *names, table: str | None = None):
    """A folder with these image files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGE)
    if table is not None:
        (folder / "manifest.csv").write_text(table, "utf-8")
    return folder


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            '{"a": "day", "b": "night"}',
            ' {"a": "day", "b": "night"}',
            "name,group\na,day\nb,night\n",
            "file,size,group\r\na.png,3,day\r\nb.jpeg,4, night \r\n",
        ],
    )
    def test_forms(self, text):
        """JSON, or CSV with the name or the file of each pair."""
        assert parse_groups(text) == {"a": "day", "b": "night"}

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_nothing(self, text):
        """An empty field is no groups."""
        assert parse_groups(text) == {}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "not valid JSON"),
            ('{"a": 3}', "is a text"),
            ('{"a": {"b": "c"}}', "is a text"),
            ("day,night", "needs a column name or file"),
            ("name,camera\na,b", "column 'group'"),
            ("name,group\na,day\na,night", "twice"),
            ('name,group\n"a,day', "not CSV"),
            ('{"a": ""}', "no name"),
            ('{"a": " day"}', "spaces"),
            ('{"a": "d\\u0000y"}', "control"),
            ('{"a": "' + 101 * "x" + '"}', "more than 100"),
            ("[" * 100_000, "needs a column"),
            ("{" + '"a":{' * 100_000, "not valid JSON"),
        ],
    )
    def test_refuses(self, text, words):
        """What cannot be read is said in a sentence."""
        with pytest.raises(BadRequest) as caught:
            parse_groups(text)
        assert words in caught.value.detail
        assert len(caught.value.detail) < 250


class TestFolder:
    @pytest.mark.parametrize("base", ["", "y/"])
    def test_folders(self, tmp_path, base):
        """Each folder of truths is a group; its pairs are named by it."""
        folder = laid_out(tmp_path, f"{base}day/a.png", f"{base}day/b.png", f"{base}night/a.jpg")
        laid_out(tmp_path, f"{base}.hidden/a.png", f"{base}__MACOSX/a.png")
        pairs = find_grouped_pairs(folder, "folder")
        assert [(pair.name, pair.group, pair.x) for pair in pairs] == [
            ("day.a", "day", None),
            ("day.b", "day", None),
            ("night.a", "night", None),
        ]

    def test_inputs_and_labels(self, tmp_path):
        """X and labels lie in folders of the same names."""
        folder = laid_out(tmp_path, "y/day/a.png", "x/day/a.webp", "labels/day/a.png")
        (pair,) = find_grouped_pairs(folder, "folder")
        assert pair.x == folder / "x" / "day" / "a.webp"
        assert pair.label == folder / "labels" / "day" / "a.png"

    def test_a_missing_partner(self, tmp_path):
        """Is named by group and name."""
        folder = laid_out(tmp_path, "y/day/a.png", "y/night/b.png", "x/day/a.png")
        with pytest.raises(BadPairs) as caught:
            find_grouped_pairs(folder, "folder")
        assert caught.value.members["items"] == [
            {"name": "night.b", "reason": "x/ has no image of this name"}
        ]

    def test_one_name_from_two_groups(self, tmp_path):
        """a.b in no folder can be a of b and b of a: it is refused."""
        folder = laid_out(tmp_path, "a.b/c.png", "a/b.c.png")
        with pytest.raises(BadPairs, match=r"a\.b\.c: two groups"):
            find_grouped_pairs(folder, "folder")

    def test_column(self, tmp_path):
        """A column of manifest.csv names the group; a pair that it leaves out has none."""
        table = "file,camera\na.png,old\nb.png,\nmissing.png,new\n"
        folder = laid_out(tmp_path, "y/a.png", "y/b.png", "y/c.png", table=table)
        pairs = find_grouped_pairs(folder, "camera")
        assert [(pair.name, pair.group) for pair in pairs] == [
            ("a", "old"),
            ("b", None),
            ("c", None),
        ]

    @pytest.mark.parametrize(
        ("by", "table", "words"),
        [
            ("camera", None, "cannot be read"),
            ("camera", "file,subject\na.png,cat\n", "column 'camera'"),
            ("camera", "file,camera\nb.png,old\n", "no pair with a group"),
            ("folder", None, "no pair with a group"),
        ],
    )
    def test_no_groups(self, tmp_path, by, table, words):
        """Asking for groups that nobody named is an error, not a calibration without them."""
        with pytest.raises((BadRequest, BadPairs), match=words):
            find_grouped_pairs(laid_out(tmp_path, "a.png", table=table), by)

    def test_without(self, tmp_path):
        """Without a way to group there are none."""
        (pair,) = find_grouped_pairs(laid_out(tmp_path, "a.png"), None)
        assert pair.group is None


class TestArchive:
    @pytest.mark.parametrize("base", ["", "photos/"])
    def test_folders(self, base):
        """y/GROUP/NAME names group and pair, inside one folder or none."""
        names = (f"{base}x/day/a.png", f"{base}y/day/a.png", f"{base}y/b.png")
        archive = io.BytesIO(zipped(dict.fromkeys(names, IMAGE)))
        files = list(archive_files(archive, ArchiveLimits()))
        assert files == [
            UploadedFile("x", "day.a", IMAGE, "day"),
            UploadedFile("y", "day.a", IMAGE, "day"),
            UploadedFile("y", "b", IMAGE),
        ]

    @pytest.mark.parametrize("name", ["z/day/a.png", "p/q/y/day/a.png", "y/day/dusk/a.png"])
    def test_elsewhere(self, name):
        """Other folders are still no place for a pair."""
        archive = io.BytesIO(zipped({name: IMAGE}))
        (entry,) = archive_files(archive, ArchiveLimits())
        assert isinstance(entry, Entry)

    def test_a_group_without_a_pair(self):
        """A name in the mapping that no image has is named as a problem."""
        found = UploadedPairs(
            sizes={"x": {}, "y": {"a": (48, 48)}, "labels": {}}, groups={"a": "day", "b": "day"}
        )
        usable, items = check_uploaded(found, PIPELINE)
        assert [pair["group"] for pair in usable] == ["day"]
        assert items == [{"name": "b", "reason": "y/ has no image of this name"}]
