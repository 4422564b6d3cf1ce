"""Creating calibrations over HTTP: every form of upload, and every pair that does not fit."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from app.api.made import MAX_FILES
from app.images.degrade import USUAL, Degradation, degrade
from app.upscalers.base import Capabilities
from tests.api.admin import BASE, SAMPLES, Admin, label, pair_files, tarred, truth_files, zipped
from tests.api.gateway import AS_ADMIN, check_problem
from tests.calibration.test_layout import by_name, layouts
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler

COUNT = 4


def reasons(response) -> dict[str, str]:
    """What is wrong with which item."""
    return {item["name"]: item["reason"] for item in check_problem(response, "bad-pairs")["items"]}


class TestUploads:
    def test_all_forms_are_one(self, admin):
        """The same pairs give the same staircases, however they were sent."""
        files = pair_files(COUNT)
        parts = [(name[0], (name[2:], data, "image/png")) for name, data in reversed(files.items())]
        fields = {"config": json.dumps({"samples": SAMPLES})}
        made = [
            admin.create(zipped(files)),
            admin.create(tarred({f"set/{name}": data for name, data in files.items()}, "gz")),
            admin.made(admin.send("POST", files=parts, data=fields)),
        ]
        curves = [admin.get(f"/{one['id']}/curve") for one in made]
        assert curves[0] == curves[1] == curves[2]
        assert made[0]["degradation"] is None
        assert (made[0]["n"], made[0]["pipeline"]["samples"]) == (COUNT, SAMPLES)

    def test_near_duplicates_are_told_at_once(self, admin):
        """The job says which originals look alike; those of one scene are no surprise."""
        look = photo(3, 64, 64)
        files = {**truth_files(2), "y/a.png": encoded(look), "y/b.jpg": encoded(look, "JPEG")}
        sent = admin.post_files(files)
        told = sent.json()["warnings"]
        assert "a, b look alike" in told[0]
        assert admin.ended(sent)["warnings"] == told
        data = {"scenes": json.dumps({"a": "one", "b": "one"})}
        named = admin.send("POST", files={"archive": ("a.zip", zipped(files))}, data=data)
        assert admin.ended(named)["warnings"] == []

    def test_inputs(self, admin, upscaler):
        """The upscaler sees just X, which is made from Y as asked for where it is not sent."""
        seen = []
        upscaler.sample = lambda rgb, seed: (
            seen.append(rgb) or FakeUpscaler.sample(upscaler, rgb, seed)
        )
        admin.create(pair_files(1))
        assert np.array_equal(seen[-1], photo(0, 48, 48)[::2, ::2])
        made = admin.create(truth_files(1), degradation={"grey": True, "blur": 1})
        assert made["degradation"] == Degradation(grey=True, blur=1).model_dump()
        expected = degrade(photo(0, 48, 48), 2, Degradation(grey=True, blur=1), 0)
        assert np.array_equal(seen[-1], expected)

    def test_provenance(self, admin):
        """It says who, when, and from which images."""
        made = admin.create(truth_files(COUNT), seed=5)
        assert made["provenance"]["created_by"].startswith("key ")
        assert made["provenance"]["software"]
        assert made["seed"] == 5
        pairs = admin.get(f"/{made['id']}/pairs")
        assert [pair["name"] for pair in pairs] == ["000", "001", "002", "003"]
        assert all(len(pair["y_sha256"]) == 64 and pair["breakpoints"] >= 1 for pair in pairs)

    def test_nothing_stays_after_a_refusal(self, tmp_path, start):
        """The spool holds nothing of an upload that was refused."""
        admin = Admin(start())
        check_problem(admin.post_files({"y/a.png": b"text"}), "bad-pairs")
        assert list((tmp_path / "spool").iterdir()) == []


class TestConfig:
    def test_defaults(self, admin):
        """An empty config is a whole one."""
        response = admin.send("POST", files={"archive": ("a.zip", zipped(truth_files(1)))})
        made = admin.made(response)
        pipeline = made["pipeline"]
        chosen = (made["default_alpha"], pipeline["samples"], pipeline["prediction"])
        assert chosen == (0.1, 2, "first")
        assert pipeline["indecision"]["estimator"] == "smoothed_variance"
        assert pipeline["fidelity"]["metric"] == "neighborhood"

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ("text", "config"),
            ("[]", "config"),
            ('{"sample": 8}', "sample"),
            ('{"samples": 0}', "samples"),
            ('{"samples": "many"}', "samples"),
            ('{"default_alpha": 0}', "default_alpha"),
            ('{"default_alpha": NaN}', "default_alpha"),
            ('{"prediction": "median"}', "prediction"),
            ('{"indecision": {"estimator": "magic"}}', "indecision"),
            ('{"indecision": {"size": 0}}', "indecision"),
            ('{"fidelity": {"metric": "magic"}}', "fidelity"),
            ('{"fidelity": {"bound": -1}}', "fidelity"),
            ('{"degradation": {"jpeg": 0}}', "degradation.jpeg"),
            ('{"seed": -1}', "seed"),
            ('{"on_bad_pair": "drop"}', "on_bad_pair"),
        ],
    )
    def test_mistakes(self, admin, upscaler, config, words):
        """Each names its field, and nothing is generated."""
        files = {"archive": ("a.zip", zipped(truth_files(1)))}
        response = admin.send("POST", files=files, data={"config": config})
        assert words in check_problem(response, "bad-request")["detail"]
        assert upscaler.calls == []

    def test_unknown_upscaler(self, admin):
        """It is named, with those that exist."""
        response = admin.post_files(truth_files(1), upscaler="other")
        assert "'other'" in check_problem(response, "not-found")["detail"]

    def test_more_samples_than_the_upscaler_draws(self, admin, upscaler):
        """This is refused before anything is queued."""
        upscaler.capabilities = Capabilities(max_samples=4)
        response = admin.post_files(truth_files(1), samples=5)
        assert "at most 4 samples" in check_problem(response, "bad-request")["detail"]

    def test_archive_and_files(self, admin):
        """One or the other."""
        files = [("archive", ("a.zip", zipped(truth_files(1)))), ("y", ("b.png", b"x"))]
        check_problem(admin.send("POST", files=files), "bad-request")

    def test_too_many_single_files(self, admin, upscaler):
        """Each single file is open until the end, so there are hundreds at most; archives go on."""
        files = [("y", (f"{k}.png", b"x")) for k in range(MAX_FILES + 1)]
        problem = check_problem(admin.send("POST", files=files), "image-too-large")
        assert problem["limit"] == "max_files"
        assert "archive" in problem["detail"]

    def test_nothing(self, admin):
        """An empty form or archive says what to send."""
        assert "send archive" in check_problem(admin.send("POST"), "bad-pairs")["detail"]
        check_problem(admin.post_files({}), "bad-pairs")


class TestBadPairs:
    def test_each_is_named(self, admin, upscaler):
        """All problems are told at once, each with its item, before any generation."""
        files = {
            **pair_files(3),
            "y/text.png": b"text",
            "x/text.png": encoded(photo(0, 24, 24)),
            "y/alone.png": encoded(photo(11, 48, 48)),
            "x/lonely.png": encoded(photo(12, 24, 24)),
            "y/size.png": encoded(photo(13, 48, 50)),
            "x/size.png": encoded(photo(13, 24, 24)),
            "y/tiny.png": encoded(photo(14, 4, 4)),
            "x/tiny.png": encoded(photo(14, 2, 2)),
            "y/again.png": encoded(photo(0, 48, 48)),
            "x/again.png": encoded(photo(0, 24, 24)),
            "y/001.jpg": encoded(photo(15, 48, 48), "JPEG"),
            "y/notes.txt": b"text",
            "readme.txt": b"text",  # beside the folders: left alone
        }
        found = reasons(admin.post_files(files))
        assert found == {
            "text": found["text"],
            "alone": "x/ has no image of this name",
            "lonely": "y/ has no image of this name",
            "size": "y is 50×48, but 2× the size of x is 48×48",
            "tiny": found["tiny"],
            "again": "the same image as 000",
            "001": "several files have this name: y/001.jpg, y/001.png",
            "y/notes.txt": "not an image file",
        }
        assert found["text"].startswith("y: The file is not a PNG")
        assert "y is 4×4, smaller than the window of 7 pixels" in found["tiny"]
        assert upscaler.calls == []

    def test_skip(self, admin):
        """With "skip" the good ones are used, and the calibration lists the others."""
        files = {**truth_files(3), "y/bad.png": b"text", "y/copy.png": truth_files(1)["y/000.png"]}
        made = admin.create(files, on_bad_pair="skip")
        assert made["n"] == 3
        assert {item["name"] for item in made["skipped"]} == {"bad", "copy"}

    def test_labels_without_the_metric(self, admin):
        """Labels belong to the semantic metric."""
        files = {**truth_files(1), "labels/000.png": label(differs=True)}
        assert reasons(admin.post_files(files)) == {"000": "has a label"}

    def test_hostile_file_names(self, admin):
        """The name of a form file is only ever the name of a pair."""
        parts = [
            ("y", (name, encoded(photo(k, 48, 48)), "image/png"))
            for k, name in enumerate(["../../etc/passwd.png", "..\\..\\evil.png", "/root/a b.png"])
        ]
        config = '{"samples": 4, "degradation": {}}'
        response = admin.send("POST", files=parts, data={"config": config})
        pairs = admin.get(f"/{admin.made(response)['id']}/pairs")
        assert [pair["name"] for pair in pairs] == ["a b", "evil", "passwd"]

    @pytest.mark.parametrize(
        ("data", "slug"),
        [
            (b"text", "unsupported-media"),
            (tarred(truth_files(2), "gz")[:-400], "bad-request"),
            (zipped({"y/../../a.png": b"x"}), "bad-request"),
        ],
    )
    def test_archives_that_are_refused(self, admin, data, slug):
        """A clear 4xx each; more in tests/calibration/test_archive.py."""
        check_problem(admin.post_files(data), slug)


class TestJobs:
    def test_pending_calibrations_are_listed(self, start):
        """While one is made, the list of pending ones shows its job."""
        upscaler = FakeUpscaler(gate=threading.Event())
        admin = Admin(start(upscaler))
        response = admin.post_files(truth_files(2), name="street")
        job = response.json()["id"]
        (row,) = admin.get(state="pending")
        assert (row["id"], row["name"]) == (job, "street")
        assert (row["upscaler"], row["metric"]) == ("fake", "neighborhood")
        assert admin.get(state="pending", upscaler="other") == []
        shown = admin.get(f"/{job}")
        assert shown["id"] == shown["job"]["id"] == job
        for part in ("curve", "plot.svg", "backtest", "export"):
            check_problem(admin.send("GET", f"/{job}/{part}"), "conflict")
        check_problem(admin.send("POST", f"/{job}/activate"), "conflict")
        upscaler.gate.set()
        made = admin.made(response)
        assert admin.get(state="pending") == []
        assert admin.get(f"/{job}")["id"] == made["id"]

    def test_jobs_of_upscalings_are_no_calibrations(self, client, admin):
        """Their ids are not found here."""
        files = {"image": ("a.png", encoded(photo(0, 24, 24)), "image/png")}
        job = client.post("/v1/upscale", files=files, headers={"Prefer": "respond-async"}).json()
        check_problem(admin.send("GET", f"/{job['id']}"), "not-found")

    def test_unknown(self, admin):
        """An unknown id is not found on every path."""
        for path in ("", "/curve", "/plot.svg", "/backtest", "/export", "/pairs"):
            check_problem(admin.send("GET", f"/cal-unknown{path}"), "not-found")
            check_problem(admin.send("GET", f"/job-unknown{path}"), "not-found")
        assert BASE == "/v1/admin/calibrations"


class TestScenesAndClasses:
    def test_every_y_is_used_under_every_class(self, admin):
        """Without a degradation each truth makes an input of each class, and counts once."""
        made = admin.create(truth_files(3), degradation=None)
        assert (made["n"], made["pairs"]) == (3, 3 * len(USUAL.variants()))
        assert made["degradation"] == USUAL.model_dump(mode="json")
        named = {item["name"]: item["n"] for item in made["classes"]}
        assert {"lossless", "jpeg-90", "jpeg-80", "jpeg-68", "jpeg-50"} <= named.keys()
        assert named["jpeg-80"] == 3
        assert made["bound"] == 0.5
        assert admin.get(f"/{made['id']}/backtest")["checks"]["duplicates"] == []
        parts = [f"/{made['id']}/pairs/000~{name}/y.png" for name in ("jpeg-80", "lossless")]
        one, other = (admin.send("GET", part).content for part in parts)
        assert one == other == truth_files(1)["y/000.png"]

    @pytest.mark.parametrize(
        "scenes",
        [
            '{"000": "a", "001": "a"}',
            "name,scene\n000,a\n001,a",
            "file,pool_id\n000.png,a\n001.png,a",
        ],
    )
    def test_scenes_of_a_form(self, admin, scenes):
        """A scene that two pairs name counts once, everywhere."""
        fields = {"config": json.dumps({"samples": SAMPLES, "degradation": {}}), "scenes": scenes}
        files = {"archive": ("pairs.zip", zipped(truth_files(4)))}
        made = admin.made(admin.send("POST", files=files, data=fields))
        assert (made["n"], made["pairs"]) == (3, 4)
        assert made["min_alpha"] == 0.5 / 4
        pairs = {pair["name"]: pair.get("scene") for pair in admin.get(f"/{made['id']}/pairs")}
        assert pairs == {"000": "a", "001": "a", "002": None, "003": None}
        smaller = admin.send("DELETE", f"/{made['id']}/pairs/000").json()
        assert (smaller["n"], smaller["pairs"]) == (3, 3)

    @pytest.mark.parametrize("by", ["folder", "table"])
    def test_scenes_of_an_archive(self, admin, by):
        """A level of folders, or the table in the archive, names scenes."""
        files = {f"y/s{k // 2}/{k}.png": data for k, data in enumerate(truth_files(4).values())}
        if by == "table":
            files = {**truth_files(4), "manifest.csv": b"file,scene\n000.png,a\n001.png,a\n"}
        fields = {"config": json.dumps({"samples": SAMPLES, "degradation": {}})}
        if by == "folder":
            fields["scenes"] = "folder"
        sent = {"archive": ("pairs.zip", zipped(files))}
        made = admin.made(admin.send("POST", files=sent, data=fields))
        assert (made["n"], made["pairs"]) == (2 if by == "folder" else 3, 4)
        assert made["groups"] == []

    def test_a_bound_without_generating(self, admin):
        """Errors are counted up to c from the stored staircases; what was cut cannot come back."""
        made = admin.create(truth_files(4), fidelity={"bound": 1.9576})
        cut = admin.send("POST", f"/{made['id']}/derive", json={"fidelity": {"bound": 0.25}}).json()
        assert (cut["bound"], cut["min_alpha"]) == (0.25, 0.05)
        assert cut["guarantee"] == made["guarantee"]
        for bound in (0.25, 0.5):
            asked = {"fidelity": {"bound": bound}}
            assert admin.send("POST", f"/{cut['id']}/derive", json=asked).status_code == 409


@layouts
def test_the_one_rule(admin, paths, pairs, items):
    """The page is told what a folder or an archive of these names would make."""
    answer = admin.post_names(sorted(paths))
    assert by_name(answer["items"]) == items
    assert [pair["name"] for pair in answer["pairs"]] == [p.split(": ")[0] for p in pairs]
    assert answer["groups"] == sorted({p.split(" in ")[1] for p in pairs if " in " in p})


def test_folders_as_groups(admin):
    """Folders of truths are groups only where that is asked for."""
    names = ["p/a.png", "q/a.png"]
    assert admin.post_names(names)["pairs"] == []
    assert admin.post_names(names, folders=True)["groups"] == ["p", "q"]


@pytest.mark.parametrize("body", [{}, {"names": "a"}, {"names": [1]}, {"names": [], "more": 1}])
def test_what_is_no_list_of_names(admin, body):
    """A body that is something else is refused."""
    response = admin.client.post("/v1/admin/pairs/check", json=body, headers=AS_ADMIN)
    check_problem(response, "bad-request")
