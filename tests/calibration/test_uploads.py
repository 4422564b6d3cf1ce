"""Uploads: into the spool one at a time, each looked at as it arrives."""

from __future__ import annotations

import hashlib

import pytest
from PIL import Image

from app.calibration.config import AskedPair
from app.calibration.groups import claimed_predictions
from app.calibration.layout import arrange, placed
from app.calibration.uploads import (
    Naming,
    SpooledFile,
    UploadedPairs,
    check_uploaded,
    form_file,
    spool_pairs,
)
from app.errors import BadPairs
from app.sampling.pipeline import Pipeline
from app.stores.objects import open_blobs
from tests.factories import encoded, photo

PIPELINE = Pipeline(fingerprint="f", scale=2, samples=2)


def found(**sizes: dict[str, tuple[int, int]]) -> UploadedPairs:
    by_path = {
        f"{role}/{name}.png": wh for role, names in sizes.items() for name, wh in names.items()
    }
    files = {path: SpooledFile(size, path) for path, size in by_path.items()}
    return UploadedPairs(arrange(map(placed, by_path)), files)


class TestSpool:
    async def test_kept(self, tmp_path):
        """Content, size and digest of every image are kept, under its role and name."""
        spool = open_blobs(None, tmp_path / "spool")
        y, x = encoded(photo(0, 48, 64)), encoded(photo(0, 24, 32))
        files = [form_file("y", "a b", y), form_file("x", "a b", x)]
        kept = await spool_pairs(files, spool, "job")
        assert (kept.arranged.items, kept.broken) == ([], {})
        assert [file.size for file in kept.files.values()] == [(64, 48), (32, 24)]
        assert kept.files["y/a b"].sha256 == hashlib.sha256(y).hexdigest()
        assert await spool.names("job") == ["x/a b", "y/a b"]
        assert await spool.get("job", "y/a b") == y

    async def test_one_at_a_time(self, tmp_path):
        """The next file is asked for only when the one before is stored."""
        spool = open_blobs(None, tmp_path / "spool")

        def files():
            for k in range(3):
                assert len(list((tmp_path / "spool" / "blobs").rglob("*%2F*"))) == k
                yield form_file("y", str(k), encoded(photo(k)))

        await spool_pairs(files(), spool, "job")

    async def test_turned_photographs(self, tmp_path):
        """The size is that of the image as it is shown, orientation applied."""
        exif = Image.Exif()
        exif[0x0112] = 6
        picture = encoded(photo(0, 24, 32), "JPEG", exif=exif)
        files = [form_file("y", "a", picture)]
        kept = await spool_pairs(files, open_blobs(None, tmp_path / "spool"), "job")
        assert kept.files["y/a"].size == (24, 32)

    @pytest.mark.parametrize("name", ["a" * 300, "ж" * 60, "a\nb", "a\x00b", "\ud800"])
    async def test_names(self, tmp_path, name):
        """Names that cannot be kept are items, and nothing is stored."""
        spool = open_blobs(None, tmp_path / "spool")
        kept = await spool_pairs([form_file("y", name, encoded(photo(0)))], spool, "job")
        assert len(kept.arranged.items) == 1
        assert await spool.names("job") == []


class TestCheck:
    @pytest.mark.parametrize(
        ("sizes", "words"),
        [
            ({"y": {"a": (6, 48)}}, "smaller than the window"),
            ({"y": {"a": (48, 48)}, "x": {"a": (24, 25)}}, "2× the size of x is 48×50"),
            ({"y": {"a": (48, 48)}, "labels": {"a": (48, 47)}}, "the prediction will be 48×48"),
        ],
    )
    def test_what_does_not_fit(self, sizes, words):
        """Each mistake has its reason."""
        usable, items = check_uploaded(found(**sizes), PIPELINE, Naming())
        assert usable == []
        assert words in items[0]["reason"]

    def test_odd_sizes(self):
        """Without X, Y is cropped to a multiple of the scale, and a label must fit that."""
        pairs = found(y={"a": (49, 51)}, labels={"a": (48, 50)})
        asked = AskedPair(name="a", source="a", x=False, label=True, prediction=None)
        assert check_uploaded(pairs, PIPELINE, Naming()) == ([asked], [])

    def test_one_reason_each(self):
        """An item with several problems is named once."""
        pairs = found(x={"a": (1, 1)}, y={"a": (48, 48)})
        pairs.broken["y/a.png"] = "y: first"
        assert check_uploaded(pairs, PIPELINE, Naming()) == (
            [],
            [{"name": "a", "reason": "y: first"}],
        )

    def test_duplicates(self):
        """A repeated image is named with the first of its kind, also an earlier calibration's."""
        pairs = found(y={"a": (48, 48), "b": (48, 48), "c": (48, 48)})
        for name, digest in {"a": "1", "b": "1", "c": "2"}.items():
            pairs.files[f"y/{name}.png"] = SpooledFile((48, 48), digest)
        usable, items = check_uploaded(pairs, PIPELINE, Naming(), known=[("old", "2")])
        assert [pair.name for pair in usable] == ["a"]
        assert {item["name"]: item["reason"] for item in items} == {
            "b": "the same image as a",
            "c": "the same image as old",
        }

    def test_a_group_without_a_pair(self):
        """A name in the mapping that no image has is named as a problem."""
        groups = {"a": "day", "b": "day"}
        usable, items = check_uploaded(found(y={"a": (48, 48)}), PIPELINE, Naming(groups))
        assert [pair.group for pair in usable] == ["day"]
        assert items == [{"name": "b", "reason": "y/ has no image of this name"}]


@pytest.mark.parametrize("data", [b"", b"[1]", b"3", b"\xff\xfe", b"[" * 100_000])
def test_predictions_that_cannot_be_read(data):
    """Only a JSON object names predictions."""
    with pytest.raises(BadPairs):
        claimed_predictions(data)
