"""Taking in pairs: from a folder, an archive or a form, decoded, checked, each problem named."""

from __future__ import annotations

import functools
import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.calibration.archive import ArchiveLimits, archive_files
from app.calibration.intake import Found, files_of, find, find_in, folder_files, take_in
from app.calibration.layout import NamedFile
from app.calibration.naming import Naming, claimed_predictions
from app.calibration.pairs import bad_pairs, load_pair
from app.conformal.fidelity import FidelitySettings
from app.conformal.fitted import Fit
from app.conformal.indecision import IndecisionSettings
from app.errors import BadPairs, BadRequest
from app.images.decode import PAIR_LIMITS, decode
from app.images.encode import png_rgb
from app.sampling.pipeline import Pipeline
from app.stores.objects import open_blobs
from app.upscalers.base import image_digest
from tests.api.admin import zipped
from tests.factories import calibration_of, encoded, photo
from tests.fakes import FakeUpscaler

PIPELINE = Pipeline(fingerprint="fake:1", scale=2, samples=4)
SEMANTIC = PIPELINE.model_copy(update={"fidelity": FidelitySettings("semantic")})
OTHER = "not an image in x/, y/ or labels/ (y/NAME.png, or y/GROUP/NAME.png)"


def picture(seed=0, side=48, form="PNG", **options) -> bytes:
    return encoded(photo(seed, side, side), form, **options)


def sent(files) -> list[NamedFile]:
    return [NamedFile(path, functools.partial(bytes, data)) for path, data in files.items()]


async def taken(files, pipeline=PIPELINE, naming=None, table=None, **options):
    """What is taken in of files by their paths, or of named files."""
    named = sent(files) if isinstance(files, dict) else files
    return await take_in(lambda: named, find(named, naming or Naming(), table), pipeline, **options)


def by_name(items) -> dict[str, str]:
    return {item["name"]: item["reason"] for item in items}


FILES = {"y/b.png": picture(1), "x/b.png": picture(1, 24), "y/day/a.png": picture(2)}
FILES |= {"x/day/a.webp": picture(2, 24, "WEBP"), "y/.old/c.png": b"", "readme.txt": b"text"}
LABELLED = {"y/a.png": picture(1), "y/b.png": picture(2), "labels/b.png": picture(3)}


class TestOneRoad:
    def folder(self, tmp_path):
        for path, data in FILES.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(data)
        return functools.partial(folder_files, tmp_path)

    def archive(self, _):
        data = io.BytesIO(zipped(FILES))
        return functools.partial(archive_files, data, ArchiveLimits())

    @pytest.mark.parametrize("way", [folder, archive])
    async def test_folder_and_archive(self, tmp_path, way):
        """Both give the same pairs, and keep their files by role and name of the pair."""
        files, blobs = way(self, tmp_path / "set"), open_blobs(None, tmp_path / "blobs")
        found = await take_in(
            files, find(files(), Naming()), PIPELINE, keep=functools.partial(blobs.put, "job")
        )
        assert [(pair.name, pair.group) for pair in found.usable] == [("b", None), ("day.a", "day")]
        assert found.usable[0].y_sha256 == hashlib.sha256(FILES["y/b.png"]).hexdigest()
        assert (found.skipped, found.alike) == ([], [])
        assert await blobs.names("job") == ["x/b", "x/day.a", "y/b", "y/day.a"]
        assert await blobs.get("job", "x/day.a") == FILES["x/day/a.webp"]

    async def test_a_form(self, tmp_path):
        """A form's field says the role: suffix and folders in the name mean nothing."""
        names = ["a b", "../../etc/c.gif", "..\\d.png", "e.png"]
        files = [
            NamedFile(f"y/{name}", functools.partial(picture, k), "y")
            for k, name in enumerate(names)
        ]
        assert [pair.name for pair in (await taken(files)).usable] == ["a b", "c", "d", "e"]

    @pytest.mark.parametrize("stray", ["a.png", "z/a.png", "set/a.png"])
    async def test_a_stray_file_never_takes_the_place_of_a_truth(self, tmp_path, stray):
        """Whatever lies beside y/, the bytes that are measured are those of y/, skipped or not."""
        blobs = open_blobs(None, tmp_path)
        for files in ({stray: picture(5), "y/a.png": picture(1)},) * 2:
            found = await taken(files, keep=functools.partial(blobs.put, "job"))
            assert by_name(found.skipped) == {stray: OTHER}
            assert await blobs.get("job", "y/a") == picture(1)
            (pair,) = found.usable
            assert pair.y_sha256 == hashlib.sha256(picture(1)).hexdigest()

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
        pairs, items = find(archive_files(archive, ArchiveLimits()), Naming())
        used = [path for pair in pairs for path in pair.by_role.values()]
        assert len(used) == len(set(used))
        named = " ".join(f"{item['name']} {item['reason']}" for item in items)
        for path in paths - set(used):
            stem = path.rpartition("/")[2].rpartition(".")[0]
            assert path in named or stem in named


class TestChecks:
    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({"y/a.png": picture(0, 6)}, "smaller than the window"),
            ({"y/a.png": picture(), "x/a.png": picture(0, 25)}, "2× the size of x is 50×50"),
            ({"y/a.png": b"text"}, "y: The file is not a PNG"),
            ({"y/a.png": picture()[:-200]}, "y: "),
            ({"y/a.png": picture(), "x/a.png": b""}, "x: The file is empty"),
            ({"y/a.png": picture(), "y/a.jpg": picture()}, "several files have this name"),
        ],
    )
    async def test_what_cannot_be_used(self, files, words):
        """Each mistake has its reason, also one deep inside a file."""
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
            "y/d.png": png_rgb(photo(0, 48, 48)),
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

    async def test_what_sigma_was_fitted_on(self):
        """It is known by its pixels, in whatever file; the error says what can be done."""
        digest = image_digest(decode(picture(3), PAIR_LIMITS).rgb)
        fit = Fit(weights=(("slope@0", 1.0),), photographs=(digest[:16],))
        fitted = PIPELINE.model_copy(update={"indecision": IndecisionSettings("fitted", fit=fit)})
        files = {"y/a.webp": picture(3, 48, "WEBP", lossless=True), "y/b.png": picture(4)}
        found = await taken(files, fitted)
        assert [pair.name for pair in found.usable] == ["b"]
        assert by_name(found.skipped) == {"a": "σ was fitted on this photograph"}
        told = bad_pairs(found.skipped, 2).detail
        assert "--skip-bad-pairs" in told
        assert "--estimator" in told

    async def test_alike(self):
        """Pictures that look alike are named, unless they name one scene."""
        files = {"y/a.png": picture(5), "y/b.jpg": picture(5, 48, "JPEG"), "y/c.png": picture(6)}
        assert (await taken(files)).alike == [["a", "b"]]
        table = b"name,scene\na,one\nb,one\n"
        assert (await taken(files, table=table)).alike == []

    async def test_turned_photographs(self):
        """The size is that of the image as it is shown, orientation applied."""
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = encoded(photo(0, 24, 32), "JPEG", exif=exif)
        files = {"y/a.jpg": turned, "x/a.png": encoded(photo(0, 16, 12))}
        assert [pair.name for pair in (await taken(files)).usable] == ["a"]

    async def test_odd_sizes(self):
        """Without X, Y is cropped to a multiple of the scale, and a label must fit that."""
        files = {"y/a.png": encoded(photo(0, 51, 49)), "labels/a.png": encoded(photo(0, 50, 48))}
        files["labels/predictions.json"] = b'{"a": "0"}'
        (pair,) = (await taken(files, SEMANTIC)).usable
        assert (pair.x, pair.label, pair.prediction) == (False, True, "0")

    @pytest.mark.parametrize("name", ["a" * 300, "ж" * 60, "a\nb", "a\x00b", "\ud800"])
    async def test_names(self, name):
        """Names that cannot be kept are items."""
        found = await taken([NamedFile(f"y/{name}", picture, "y")])
        assert (found.usable, len(found.skipped)) == ([], 1)

    async def test_a_file_that_vanished(self, tmp_path):
        """A file of a folder that cannot be read is named as a bad pair."""
        (tmp_path / "a.png").write_bytes(picture())
        pairs = find_in(tmp_path)
        (tmp_path / "a.png").unlink()
        found = await take_in(lambda: files_of(pairs), Found(pairs, []), PIPELINE)
        assert "No such file" in by_name(found.skipped)["a"]

    async def test_progress(self):
        """Every file is counted."""
        told = []
        files = {f"y/{k}.png": picture(k) for k in range(5)}
        await taken(files, on_progress=lambda *step: told.append(step))
        assert told[-1] == (5, 5)


class TestLabels:
    async def test_of_another_metric(self):
        """A label that would not be used is refused; on the command line it is left alone."""
        with pytest.raises(BadPairs, match="semantic metric") as caught:
            await taken(LABELLED)
        assert by_name(caught.value.members["items"]) == {"b": "has a label"}
        assert len((await taken(LABELLED, labels_are_claimed=False)).usable) == 2

    async def test_claims(self):
        """Over HTTP a label says which prediction it was drawn on; labels may come later."""
        found = await taken(LABELLED, SEMANTIC)
        assert [pair.name for pair in found.usable] == ["a"]
        assert "does not name its prediction" in by_name(found.skipped)["b"]

    async def test_without_a_server(self):
        """There nobody can draw one later; what predictions.json claims must be whole."""
        found = await taken(LABELLED, SEMANTIC, labels_are_claimed=False)
        assert by_name(found.skipped) == {"a": "has no label, which the semantic metric needs"}
        claimed = {**LABELLED, "labels/a.png": picture(4)}
        claimed["labels/predictions.json"] = b'{"a": "0"}'
        found = await taken(claimed, SEMANTIC, labels_are_claimed=False)
        assert "does not name its prediction" in by_name(found.skipped)["b"]

    @pytest.mark.parametrize("data", [b"", b"[1]", b"3", b"\xff\xfe", b"[" * 100_000])
    def test_predictions_that_cannot_be_read(self, data):
        """Only a JSON object names predictions."""
        with pytest.raises(BadPairs):
            claimed_predictions(data)


class TestNaming:
    PATHS = ("y/a.png", "y/b.png", "y/day/c.png")

    def named(self, naming=None, table=None, paths=PATHS, **texts):
        files = sent({**dict.fromkeys(paths, b""), **texts})
        return {p.name: (p.group, p.scene) for p in find(files, naming or Naming(), table).pairs}

    @pytest.mark.parametrize(
        ("naming", "table", "expected"),
        [
            (Naming(), None, {"a": (None, None), "b": (None, None), "day.c": ("day", None)}),
            (
                Naming(scene_by="folder"),
                None,
                {"a": (None, None), "b": (None, None), "day.c": (None, "day")},
            ),
            (
                Naming("camera"),
                b"file,camera,pool_id\na.png,old,s\nb.png,,s\nc,new,\nmissing.png,new,t\n",
                {"a": ("old", "s"), "b": (None, "s"), "day.c": (None, None)},
            ),
            (
                Naming("folder", "kind"),
                b"\xef\xbb\xbfname,kind\nday.c,one\n",
                {"a": (None, None), "b": (None, None), "day.c": ("day", "one")},
            ),
        ],
    )
    def test_ways(self, naming, table, expected):
        """By a level of folders, or by the columns of a table, for some pairs or for all."""
        assert self.named(naming, table) == expected
        if table:
            assert self.named(naming, **{"manifest.csv": table}) == expected

    def test_groups_are_asked_for(self):
        """Scenes of a table count without a word, for they make a promise true; groups do not."""
        table = b"name,group,scene\na,cats,s\n"
        assert self.named(table=table, paths=["y/a.png"]) == {"a": (None, "s")}

    def test_folders_are_not_guessed_at(self):
        """Folders of truths are groups if that is asked for."""
        paths = ["day/a.png", "day/b.png", "night/a.jpg", ".hidden/a.png"]
        assert self.named(Naming("folder"), paths=paths).keys() == {"day.a", "day.b", "night.a"}
        assert self.named(paths=paths) == {}

    @pytest.mark.parametrize(
        ("naming", "table", "words"),
        [
            (Naming("camera"), None, "manifest.csv is missing"),
            (Naming(None, "manifest"), b"name,camera\na,old\n", "no column 'scene'"),
            (Naming("camera"), b"name,subject\na,cat\n", "no column 'camera'"),
            (Naming("camera"), b"name,camera\nmissing,old\n", "No pair has a group"),
            (Naming(None, "folder"), b"", "No pair has a scene"),
            (Naming("camera"), b"name,camera\na," + b"x" * 101, "more than 100 letters"),
            (Naming(), b"name,scene\na,b\x00c\n", "control characters"),
            (Naming(), b"name,scene\na,b\na,c\n", "twice"),
            (Naming(), b"scene\nb\n", "needs a column name or file"),
            (Naming(), b'name,scene\n"a', "not CSV"),
            (Naming(), b"name,scene\na,\xff\n", "UTF-8"),
            (Naming("folder", "folder"), None, "not both"),
        ],
    )
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


def test_pixels_of_all_of_y():
    """Cropped for another scale or not, a truth is known by the same digest."""
    digests = {
        load_pair(
            "a",
            encoded(photo(1, 49, 51)),
            None,
            PIPELINE.model_copy(update={"scale": scale}),
            degradation=None,
            seed=0,
        ).pixels_sha256
        for scale in (1, 2, 4)
    }
    assert len(digests) == 1
