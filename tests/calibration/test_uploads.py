"""Uploads: into the spool one at a time, each looked at as it arrives."""

from __future__ import annotations

import hashlib
import io

import pytest

from app.calibration.archive import ArchiveLimits, Entry
from app.calibration.pairs import claimed_predictions
from app.calibration.uploads import (
    UploadedFile,
    UploadedPairs,
    archive_files,
    check_uploaded,
    spool_pairs,
)
from app.errors import BadPairs
from app.sampling.pipeline import Pipeline
from app.stores.files import FileSpool
from tests.api.admin import zipped
from tests.factories import encoded, photo

PIPELINE = Pipeline(fingerprint="f", scale=2, samples=2)


def found(**sizes: dict[str, tuple[int, int]]) -> UploadedPairs:
    pairs = UploadedPairs()
    for role, by_name in sizes.items():
        pairs.sizes[role].update(by_name)
    pairs.digests = {name: name for name in pairs.sizes["y"]}
    return pairs


class TestArchiveFiles:
    def test_roles(self):
        """Folders x, y and labels, alone or inside one folder; other images are loose."""
        files = {
            "x/a.png": b"1",
            "set/y/a.JPG": b"2",
            "set/labels/a.webp": b"3",
            "a.png": b"4",
            "z/a.png": b"5",
            "a/b/y/a.png": b"6",
            "y/a.txt": b"7",
            "labels/predictions.json": b"8",
        }
        seen = list(archive_files(io.BytesIO(zipped(files)), ArchiveLimits()))
        assert seen[:3] == [
            UploadedFile("x", "a", b"1"),
            UploadedFile("y", "a", b"2"),
            UploadedFile("labels", "a", b"3"),
        ]
        assert seen[3:5] == [
            UploadedFile("y", "a", b"4", loose=("a.png",)),
            UploadedFile("y", "a", b"5", loose=("z", "a.png")),
        ]
        assert [entry.data for entry in seen[5:] if isinstance(entry, Entry)] == [b"6", b"7", b"8"]


class TestLoose:
    """Images in no folder that says what they are for."""

    async def spooled(self, tmp_path, names):
        image = encoded(photo(0, 48, 48))
        archive = io.BytesIO(zipped(dict.fromkeys(names, image)))
        files = archive_files(archive, ArchiveLimits())
        return await spool_pairs(files, FileSpool(tmp_path / "spool"), "job")

    @pytest.mark.parametrize("folder", ["", "photos/"])
    async def test_nothing_else(self, tmp_path, folder):
        """An archive of images in one folder holds truths."""
        found = await self.spooled(tmp_path, [f"{folder}a.png", f"{folder}b.jpg"])
        assert found.sizes == {"x": {}, "y": {"a": (48, 48), "b": (48, 48)}, "labels": {}}
        assert found.items == []

    @pytest.mark.parametrize(
        "names",
        [
            ["a.png", "y/b.png"],
            ["y/b.png", "a.png"],
            ["a.png", "x/a.png"],
            ["a.png", "labels/a.png"],
            ["p/a.png", "q/c.png"],
            ["a.png", "q/c.png"],
        ],
    )
    async def test_beside_others(self, tmp_path, names):
        """Beside folders of pairs, or in several folders, they are named and never taken."""
        found = await self.spooled(tmp_path, names)
        loose = [name for name in names if name[:2] not in {"x/", "y/", "la"}]
        assert [item["name"] for item in found.items] == loose
        kept = {"b"} if "y/b.png" in names else set()
        assert set(found.sizes["y"]) == set(found.digests) == kept


class TestSpool:
    async def test_kept(self, tmp_path):
        """Content and size of every good image are kept, under its role and name."""
        spool = FileSpool(tmp_path / "spool")
        y, x = encoded(photo(0, 48, 64)), encoded(photo(0, 24, 32))
        files = [UploadedFile("y", "a/b", y), UploadedFile("x", "a/b", x)]
        kept = await spool_pairs(files, spool, "job")
        assert (kept.items, kept.sizes["y"], kept.sizes["x"]) == (
            [],
            {"a/b": (64, 48)},
            {"a/b": (32, 24)},
        )
        assert kept.digests == {"a/b": hashlib.sha256(y).hexdigest()}
        assert await spool.names("job") == ["x/a/b", "y/a/b"]
        assert await spool.get("job", "y/a/b") == y

    async def test_one_at_a_time(self, tmp_path):
        """The next file is asked for only when the one before is stored."""
        spool = FileSpool(tmp_path / "spool")

        def files():
            for k in range(3):
                assert len(list((tmp_path / "spool").rglob("*%2F*"))) == k
                yield UploadedFile("y", str(k), encoded(photo(k)))

        await spool_pairs(files(), spool, "job")

    async def test_turned_photographs(self, tmp_path):
        """The size is that of the image as it is shown, orientation applied."""
        picture = io.BytesIO()
        from PIL import Image  # noqa: PLC0415 - only this test writes EXIF

        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(photo(0, 24, 32)).save(picture, "JPEG", exif=exif)
        files = [UploadedFile("y", "a", picture.getvalue())]
        kept = await spool_pairs(files, FileSpool(tmp_path / "spool"), "job")
        assert kept.sizes["y"] == {"a": (24, 32)}

    @pytest.mark.parametrize("name", ["a" * 300, "ж" * 60, "a\nb", "a\x00b", "\ud800"])
    async def test_names(self, tmp_path, name):
        """Names that cannot be kept are items, and nothing is stored."""
        spool = FileSpool(tmp_path / "spool")
        kept = await spool_pairs([UploadedFile("y", name, encoded(photo(0)))], spool, "job")
        assert len(kept.items) == 1
        assert await spool.names("job") == []


class TestCheck:
    def test_a_good_pair(self):
        """What fits is kept as the job needs it."""
        usable, items = check_uploaded(found(x={"a": (24, 16)}, y={"a": (48, 32)}), PIPELINE)
        assert (items, usable) == (
            [],
            [{"name": "a", "x": True, "label": False, "prediction": None, "group": None}],
        )

    @pytest.mark.parametrize(
        ("sizes", "words"),
        [
            ({"y": {"a": (6, 48)}}, "smaller than the window"),
            ({"y": {"a": (48, 48)}, "x": {"a": (24, 25)}}, "2× the size of x is 48×50"),
            ({"y": {"a": (48, 48)}, "x": {"b": (24, 24)}}, "no image of this name"),
            ({"x": {"a": (24, 24)}}, "y/ has no image"),
            ({"y": {"a": (48, 48)}, "labels": {"a": (48, 47)}}, "the prediction will be 48×48"),
            ({"labels": {"a": (48, 48)}}, "y/ has no image"),
        ],
    )
    def test_what_does_not_fit(self, sizes, words):
        """Each mistake has its reason."""
        usable, items = check_uploaded(found(**sizes), PIPELINE)
        assert usable == []
        assert words in items[0]["reason"]

    def test_odd_sizes(self):
        """Without X, Y is cropped to a multiple of the scale, and a label must fit that."""
        usable, items = check_uploaded(found(y={"a": (49, 51)}, labels={"a": (48, 50)}), PIPELINE)
        assert (len(usable), items) == (1, [])

    def test_one_reason_each(self):
        """An item with several problems is named once."""
        pairs = found(x={"a": (1, 1)}, y={"a": (48, 48)})
        pairs.items.append({"name": "a", "reason": "first"})
        assert check_uploaded(pairs, PIPELINE) == ([], [{"name": "a", "reason": "first"}])

    def test_duplicates(self):
        """A repeated image is named with the first of its kind, also an earlier calibration's."""
        pairs = found(y={"a": (48, 48), "b": (48, 48), "c": (48, 48)})
        pairs.digests = {"a": "1", "b": "1", "c": "2"}
        usable, items = check_uploaded(pairs, PIPELINE, known=[("old", "2")])
        assert [pair["name"] for pair in usable] == ["a"]
        assert {item["name"]: item["reason"] for item in items} == {
            "b": "the same image as a",
            "c": "the same image as old",
        }


@pytest.mark.parametrize("data", [b"", b"[1]", b"3", b"\xff\xfe", b"[" * 100_000])
def test_predictions_that_cannot_be_read(data):
    """Only a JSON object names predictions."""
    with pytest.raises(BadPairs):
        claimed_predictions(data)
