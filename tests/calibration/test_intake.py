"""Taking in pairs: from a folder, an archive or a form, decoded, checked, each problem named."""

import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from harness.admin import zipped
from harness.factories import calibration_of, encoded, photo
from harness.fakes import FakeUpscaler
from trustscale_server.calibrating.intake.archive import ArchiveLimits, archive_files
from trustscale_server.calibrating.intake.arrange import arrange
from trustscale_server.calibrating.intake.find import find_in, find_pairs
from trustscale_server.calibrating.intake.grouping import GroupingRule
from trustscale_server.calibrating.intake.layout import NamedFile, claimed_predictions, place_of
from trustscale_server.calibrating.intake.near_duplicates import near_duplicates, perceptual_hash
from trustscale_server.calibrating.intake.take_in import take_in
from trustscale_server.calibrating.pair_files import decode_label
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.encoding.png import to_png
from trustscale_server.kinds.degradation import Degradation
from trustscale_server.kinds.degrade import make_input
from trustscale_server.platform.errors import BadImage, BadPairs, BadRequest
from trustscale_server.sampling.spec import MeasurementSpec

PIPELINE = MeasurementSpec(fingerprint="fake:1", scale=2, samples=4)
SEMANTIC = PIPELINE.model_copy(update={"fidelity": FidelitySettings("semantic")})
ELSEWHERE = "not an image in x/, y/, labels/ or enlarged/ (y/NAME.png, or y/GROUP/NAME.png)"


def picture(seed=0, side=48, form="PNG", **options):
    return encoded(photo(seed, side, side), form, **options)


def sent(files):
    return [NamedFile(path, functools.partial(bytes, data)) for path, data in files.items()]


async def taken(files, pipeline=PIPELINE, naming=None, table=None, **options):
    named = sent(files) if isinstance(files, dict) else files
    return await take_in(
        lambda: named, find_pairs(named, naming or GroupingRule(), table), pipeline, **options
    )


def by_name(items):
    return {item["name"]: item["reason"] for item in items}


LABELLED = {"y/a.png": picture(1), "y/b.png": picture(2), "labels/b.png": picture(3)}


class TestOneRoad:
    async def test_a_form(self, tmp_path):
        """A form's field says the role: suffix and folders in the name mean nothing."""
        names = ["a b", "../../etc/c.gif", "..\\d.png", "e.png"]
        files = [
            NamedFile(f"y/{name}", functools.partial(picture, k), "y")
            for k, name in enumerate(names)
        ]
        assert [pair.name for pair in (await taken(files)).usable] == ["a b", "c", "d", "e"]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["", "x/", "y/", "labels/", "y/g/", "x/g/", "z/", "set/y/", "q/r/s/"]),
            max_size=8,
        ),
        st.data(),
    )
    def test_every_image_is_in_a_pair_or_named(self, folders, data):
        """Archive → pairs: no image is used twice, and none is left out without a word."""
        names = st.sampled_from(["a.png", "b.png", "a.jpg", "g.a.png"])
        paths = {f"{folder}{data.draw(names)}" for folder in folders}
        archive = io.BytesIO(zipped(dict.fromkeys(sorted(paths), b"")))
        pairs, items = find_pairs(archive_files(archive, ArchiveLimits()), GroupingRule())
        used = [path for pair in pairs for path in pair.paths.values()]
        assert len(used) == len(set(used))
        named = " ".join(f"{item['name']} {item['reason']}" for item in items)
        for path in paths - set(used):
            stem = path.rpartition("/")[2].rpartition(".")[0]
            assert path in named or stem in named


class TestChecks:
    @pytest.mark.parametrize(
        ("files", "words"),
        [({"y/a.png": picture(0, 6)}, "smaller than the window"),
         ({"y/a.png": encoded(photo(1, 1, 48))}, "smaller than 2 pixels"),
         ({"y/a.png": picture(), "x/a.png": picture(0, 25)}, "2× the size of x is 50×50"),
         ({"y/a.png": b"text"}, "y: The file is not a PNG"), ({"y/a.png": picture()[:-200]}, "y: "),
         ({"y/a.png": picture(), "x/a.png": b""}, "x: The file is empty"),
         ({"y/a.png": picture(), "y/a.jpg": picture()}, "several files have this name")],
    )  # fmt: skip
    async def test_what_cannot_be_used(self, files, words):
        found = await taken(files)
        assert (found.usable, len(found.skipped)) == ([], 1)
        assert words in found.skipped[0]["reason"]
        assert not found.skipped[0]["reason"].endswith(".")

    async def test_repeated_images(self):
        """The same file, the same pixels in another one, and what the extended calibration has."""
        parent = await calibration_of(FakeUpscaler(), 2)
        files = {
            "y/a.png": picture(5),
            "y/b.png": picture(5),
            "y/001.png": picture(9),
            "y/c.webp": picture(5, 48, "WEBP", lossless=True),
            "y/d.png": to_png(photo(0, 48, 48)),
            "y/e.webp": picture(1, 48, "WEBP", lossless=True),
        }
        found = await taken(files, known=parent.manifest.pairs)
        assert [pair.name for pair in found.usable] == ["a"]
        assert by_name(found.skipped) == {
            "b": "the same image as a",
            "c": "duplicates a by content",
            "d": "the same image as 000",
            "e": "duplicates 001 by content",
            "001": "the calibration has a pair of this name already",
        }

    async def test_odd_sizes(self):
        """Without X, Y is cropped to a multiple of the scale, and a label must fit that."""
        files = {"y/a.png": encoded(photo(0, 51, 49)), "labels/a.png": encoded(photo(0, 50, 48))}
        files["labels/predictions.json"] = b'{"a": "0"}'
        (pair,) = (await taken(files, SEMANTIC)).usable
        assert ({*pair.sha256}, pair.prediction) == ({"y", "labels"}, "0")

    @pytest.mark.parametrize("name", ["a" * 300, "ж" * 60, "a\nb", "a\x00b", "\ud800"])
    async def test_names(self, name):
        found = await taken([NamedFile(f"y/{name}", picture, "y")])
        assert (found.usable, len(found.skipped)) == ([], 1)


class TestLabels:
    async def test_claims(self):
        """A label says which prediction it is of; only over HTTP it may come later."""
        with pytest.raises(BadPairs, match="semantic metric") as caught:
            await taken(LABELLED)
        assert by_name(caught.value.members["items"]) == {"b": "has a label"}
        assert len((await taken(LABELLED, labels_are_claimed=False)).usable) == 2
        found = await taken(LABELLED, SEMANTIC)
        assert [pair.name for pair in found.usable] == ["a"]
        assert "does not name its prediction" in by_name(found.skipped)["b"]

        found = await taken(LABELLED, SEMANTIC, labels_are_claimed=False)
        assert by_name(found.skipped) == {"a": "has no label, which the semantic metric needs"}
        claimed = {**LABELLED, "labels/a.png": picture(4)}
        claimed["labels/predictions.json"] = b'{"a": "0"}'
        found = await taken(claimed, SEMANTIC, labels_are_claimed=False)
        assert "does not name its prediction" in by_name(found.skipped)["b"]

    @pytest.mark.parametrize("data", [b"", b"[1]", b"3", b"\xff\xfe", b"[" * 100_000])
    def test_predictions_that_cannot_be_read(self, data):
        with pytest.raises(BadPairs):
            claimed_predictions(data)


class TestNaming:
    PATHS = ("y/a.png", "y/b.png", "y/day/c.png")

    def named(self, naming=None, table=None, paths=PATHS, **texts):
        files = sent({**dict.fromkeys(paths, b""), **texts})
        return {
            p.name: (p.group, p.scene)
            for p in find_pairs(files, naming or GroupingRule(), table).pairs
        }

    @pytest.mark.parametrize(
        ("naming", "table", "expected"),
        [(GroupingRule(), None, {"a": (None, None), "b": (None, None), "day.c": ("day", None)}),
         (GroupingRule(scene_by="folder"), None,
          {"a": (None, None), "b": (None, None), "day.c": (None, "day")}),
         (GroupingRule("camera"),
          b"file,camera,pool_id\na.png,old,s\nb.png,,s\nc,new,\nmissing.png,new,t\n",
          {"a": ("old", "s"), "b": (None, "s"), "day.c": (None, None)}),
         (GroupingRule("folder", "kind"), b"\xef\xbb\xbfname,kind\nday.c,one\n",
          {"a": (None, None), "b": (None, None), "day.c": ("day", "one")})],
    )  # fmt: skip
    def test_ways(self, naming, table, expected):
        """By a level of folders, or by the columns of a table, for some pairs or for all."""
        assert self.named(naming, table) == expected
        if table:
            assert self.named(naming, **{"manifest.csv": table}) == expected

    @pytest.mark.parametrize(
        ("naming", "table", "words"),
        [(GroupingRule("camera"), None, "manifest.csv is missing"),
         (GroupingRule(None, "manifest"), b"name,camera\na,old\n", "no column 'scene'"),
         (GroupingRule("camera"), b"name,subject\na,cat\n", "no column 'camera'"),
         (GroupingRule("camera"), b"name,camera\nmissing,old\n", "No pair has a group"),
         (GroupingRule(None, "folder"), b"", "No pair has a scene"),
         (GroupingRule("camera"), b"name,camera\na," + b"x" * 101, "more than 100 letters"),
         (GroupingRule(), b"name,scene\na,b\x00c\n", "control characters"),
         (GroupingRule(), b"name,scene\na,b\na,c\n", "twice"),
         (GroupingRule(), b"scene\nb\n", "needs a column name or file"),
         (GroupingRule(), b'name,scene\n"a', "not CSV"),
         (GroupingRule(), b"name,scene\na,\xff\n", "UTF-8"),
         (GroupingRule("folder", "folder"), None, "not both")],
    )  # fmt: skip
    def test_what_names_nothing(self, naming, table, words):
        """What was to name groups or scenes and does not is an error, not a calibration without."""
        with pytest.raises((BadRequest, BadPairs), match=words):
            self.named(naming, table, ["y/a.png"])


def test_nothing(tmp_path):
    """An empty folder, a file and a folder that does not exist are told apart from pairs."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    messages = {"empty": "no images", "file": "not a folder", "missing": "not a folder"}
    for place, message in messages.items():
        with pytest.raises(BadPairs, match=message):
            find_in(tmp_path / place)


class TestLoad:
    def load(self, y, x=None, **options):
        return load_pair(
            PairSource("a"),
            {"y": y} if x is None else {"y": y, "x": x},
            PIPELINE,
            **{"degradation": None, "seed": 0, **options},
        )

    def test_the_input_is_made_by_the_degradation(self):
        """Without x the degradation makes it, by bicubic reduction unless it says more."""
        for steps in (None, {}, {"grey": True}, {"noise": 9}):
            made = self.load(picture(1), degradation=steps and Degradation(**steps))
            expected = make_input(
                photo(1, 48, 48), 2, Degradation(**(steps or {})), made.seed
            ).pixels
            np.testing.assert_array_equal(made.x, expected)

    def test_the_seed_depends_on_the_content_only(self):
        """The seed follows from the truth and the seed of the calibration, not from the name."""
        one, other = (
            load_pair(PairSource(name), {"y": picture(1)}, PIPELINE, degradation=None, seed=5)
            for name in "ab"
        )
        assert one.seed == other.seed
        assert one.seed not in {self.load(picture(1)).seed, self.load(picture(2), seed=5).seed}

    def test_labels(self):
        label = np.zeros((48, 48, 3), np.uint8)
        label[3, 4] = 1
        assert decode_label(encoded(label), (48, 48)).sum() == 1
        with pytest.raises(BadImage, match="label is 24×24, y is 48×48"):
            decode_label(picture(1, 24), (48, 48))


NO_X, NO_Y = (f"{side}/ has no image of this name" for side in "xy")
SEVERAL = ["p/a.png", "q/b.png"]
DEEP = "too many folders below y/ (y/NAME.png, or y/GROUP/NAME.png)"

# Paths; the pairs that they make, as "name: x y label group"; the items that are left out.
LAYOUTS = {
    "truths": (["y/a.png", "y/b.JPG"], ["a: y/a.png", "b: y/b.JPG"], {}),
    "pairs of any suffix": (["x/a.webp", "y/a.png"], ["a: y/a.png x/a.webp"], {}),
    "labels": (["y/a.png", "y/b.png", "labels/b.png", "labels/predictions.json"],
     ["a: y/a.png", "b: y/b.png labels/b.png"], {}),
    "inside one folder": (["set/x/a.png", "set/y/a.png"], ["a: set/y/a.png set/x/a.png"], {}),
    "written large": (["X/a.png", "Y/a.png"], ["a: Y/a.png X/a.png"], {}),
    "groups": (["x/day/a.png", "y/day/a.png", "x/b.png", "y/b.png"],
     ["b: y/b.png x/b.png", "day.a: y/day/a.png x/day/a.png in day"], {}),
    "images of one folder": (["a.png", "b.png"], ["a: a.png", "b: b.png"], {}),
    "images of one folder below": (["p/a.png", "p/b.png"], ["a: p/a.png", "b: p/b.png"], {}),
    "images of several folders": (SEVERAL, [], dict.fromkeys(SEVERAL, ELSEWHERE)),
    "images beside folders": (["a.png", "y/b.png"], ["b: y/b.png"], {"a.png": ELSEWHERE}),
    "images beside inputs": (["a.png", "x/a.png"], [], {"a.png": ELSEWHERE, "a": NO_Y}),
    "another folder": (["z/a.png", "y/b.png"], ["b: y/b.png"], {"z/a.png": ELSEWHERE}),
    "too deep": (["p/q/y/a.png", "y/day/dusk/a.png"], [],
     {"p/q/y/a.png": ELSEWHERE, "y/day/dusk/a.png": DEEP}),
    "no partner": (["x/a.png", "x/b.png", "y/b.png", "y/c.png", "labels/d.png"],
     ["b: y/b.png x/b.png"], {"a": NO_Y, "c": NO_X, "d": NO_Y}),
    "two of a name": (["y/a.png", "y/a.jpg", "y/b.png"], ["b: y/b.png"],
     {"a": "several files have this name: y/a.jpg, y/a.png"}),
    "one name from two groups": (["y/a.b/c.png", "y/a/b.c.png"], [],
     {"a.b.c": "several files have this name: y/a.b/c.png, y/a/b.c.png"}),
    "no images": (["readme.txt", "y/notes.txt", "y/a.png"], ["a: y/a.png"],
     {"y/notes.txt": "not an image file"}),
    "clutter": (["y/a.png", "y/.DS_Store", "__MACOSX/y/a.png", ".old/y/a.png"], ["a: y/a.png"], {}),
    "a name too long": ([f"y/{'ж' * 60}.png"], [], {"ж" * 60: "the name is too long"}),
    "a group with spaces": (["y/ day/a.png"], [],
     {" day.a": "the group has no name, or one with spaces around it"}),
}  # fmt: skip


@pytest.mark.parametrize(("paths", "pairs", "items"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_rule(paths, pairs, items):
    """What each layout means."""
    found = arrange(map(place_of, sorted(paths)))
    words = [
        f"{pair.name}: {' '.join(filter(None, map(pair.paths.get, ('y', 'x', 'labels'))))}"
        + (f" in {pair.group}" if pair.group else "")
        for pair in found.pairs
    ]
    assert (words, by_name(found.items)) == (pairs, items)


def test_copies_and_neighbours():
    """The same picture smaller, or as JPEG, or slightly lighter, looks alike; others do not."""
    first = ndimage.zoom(photo(3, 40, 40), (4, 4, 1), order=1)
    smaller = np.asarray(Image.fromarray(first).resize((80, 80)))
    lighter = np.clip(first.astype(int) + 6, 0, 255).astype(np.uint8)
    images = {"a": first, "b": photo(4, 160, 160), "c": smaller, "d": lighter}
    found = near_duplicates(
        [(name, None, perceptual_hash(image)) for name, image in images.items()]
    )
    assert found == [["a", "c", "d"]]
