"""Creating calibrations over HTTP: every form of upload, and every pair that does not fit."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from app.api.made import MAX_FILES
from app.images.degrade import USUAL, Degradation, degrade
from app.upscalers.base import Capabilities
from tests.api.admin import (
    SAMPLES,
    Admin,
    label,
    pair_files,
    sharp_files,
    tarred,
    truth_files,
    zipped,
)
from tests.api.gateway import AS_ADMIN, check_problem
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler

COUNT = 4
CONFIG = {"config": json.dumps({"samples": SAMPLES, "degradation": {}})}


class TestUploads:
    def test_all_forms_are_one(self, admin):
        """The same pairs give the same staircases, however they were sent."""
        files = pair_files(COUNT)
        parts = [(name[0], (name[2:], data, "image/png")) for name, data in reversed(files.items())]
        made = [
            admin.create(zipped(files)),
            admin.create(tarred({f"set/{name}": data for name, data in files.items()}, "gz")),
            admin.made(admin.send("POST", files=parts, data=CONFIG)),
        ]
        curves = [admin.get(f"/{one['id']}/curve") for one in made]
        assert curves[0] == curves[1] == curves[2]
        assert made[0]["degradation"] is None
        assert (made[0]["n"], made[0]["pipeline"]["samples"]) == (COUNT, SAMPLES)

    def test_near_duplicates_are_told_at_once(self, admin):
        """The job says which originals look alike; those of one scene are no surprise."""
        look = photo(3, 64, 64)
        files = {**truth_files(1), "y/a.png": encoded(look), "y/b.jpg": encoded(look, "JPEG")}
        sent = admin.post_files(files)
        told = sent.json()["warnings"]
        assert "a, b look alike" in told[0]
        assert admin.ended(sent)["warnings"] == told
        named = admin.post_files({**files, "manifest.csv": b"name,scene\na,one\nb,one\n"})
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
        """It says who, when, and from which images; an empty config is a whole one."""
        made = admin.made(admin.send("POST", files={"archive": ("a.zip", zipped(truth_files(1)))}))
        assert made["provenance"]["created_by"].startswith("key ")
        assert made["provenance"]["software"]
        pipeline = made["pipeline"]
        chosen = (made["default_alpha"], pipeline["samples"], pipeline["prediction"])
        assert chosen == (0.1, 1, "first")
        assert pipeline["indecision"]["estimator"] == "residual"
        assert pipeline["fidelity"]["metric"] == "neighborhood"
        pairs = admin.get(f"/{made['id']}/pairs")
        assert {pair["name"].partition("~")[0] for pair in pairs} == {"000"}
        assert all(len(pair["y_sha256"]) == 64 and pair["breakpoints"] >= 1 for pair in pairs)

    def test_nothing_stays_after_a_refusal(self, tmp_path, start):
        """The blobs holds nothing of an upload that was refused."""
        check_problem(Admin(start()).post_files({"y/a.png": b"text"}), "bad-pairs")
        assert list((tmp_path / "blobs").glob("job-*")) == []


class TestRefused:
    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ("text", "config"),
            ("[]", "config"),
            ('{"sample": 8}', "sample: there is no such name; did you mean samples"),
            ('{"samples": 0}', "samples"),
            ('{"default_alpha": NaN}', "default_alpha"),
            ('{"prediction": "median"}', "prediction"),
            ('{"indecision": {"estimator": "magic"}}', "indecision"),
            ('{"fidelity": {"metrc": "semantic"}}', "fidelity.metrc: there is no such name; did"),
            ('{"fidelity": {"bound": -1}}', "fidelity"),
            ('{"fidelity": {"metric": []}}', "fidelity.metric"),
            ('{"degradation": {"jpeg": 0}}', "degradation.jpeg"),
            ('{"degradation": []}', "degradation"),
            ('{"seed": -1}', "seed"),
            ('{"on_bad_pair": "drop"}', "on_bad_pair"),
        ],
    )
    def test_a_config(self, admin, upscaler, config, words):
        """Each mistake names its field, and nothing is generated."""
        files = {"archive": ("a.zip", zipped(truth_files(1)))}
        response = admin.send("POST", files=files, data={"config": config})
        assert words in check_problem(response, "bad-request")["detail"]
        assert upscaler.calls == []

    def test_what_the_upscaler_cannot_do(self, admin, upscaler):
        """An unknown upscaler, and more samples than it draws: refused before anything waits."""
        unknown = admin.post_files(truth_files(1), upscaler="other")
        assert "'other'" in check_problem(unknown, "not-found")["detail"]
        upscaler.capabilities = Capabilities(max_samples=4)
        response = admin.post_files(truth_files(1), samples=5)
        assert "at most 4 samples" in check_problem(response, "bad-request")["detail"]

    def test_forms(self, admin):
        """Nothing, both an archive and files, and more files than can stay open."""
        assert "send archive" in check_problem(admin.send("POST"), "bad-pairs")["detail"]
        check_problem(admin.post_files({}), "bad-pairs")
        both = [("archive", ("a.zip", zipped(truth_files(1)))), ("y", ("b.png", b"x"))]
        check_problem(admin.send("POST", files=both), "bad-request")
        many = [("y", (f"{k}.png", b"x")) for k in range(MAX_FILES + 1)]
        problem = check_problem(admin.send("POST", files=many), "image-too-large")
        assert problem["limit"] == "max_files"
        assert "archive" in problem["detail"]

    @pytest.mark.parametrize(
        ("data", "slug"),
        [(b"text", "unsupported-media"), (zipped({"y/../../a.png": b"x"}), "bad-request")],
    )
    def test_archives(self, admin, data, slug):
        """A clear 4xx each; more in tests/calibration/test_archive.py."""
        check_problem(admin.post_files(data), slug)

    def test_each_pair_is_named(self, admin, upscaler):
        """All problems are told at once, each with its item, before any generation."""
        files = {
            **pair_files(1),
            "y/text.png": b"text",
            "x/text.png": encoded(photo(0, 24, 24)),
            "x/lonely.png": encoded(photo(12, 24, 24)),
            "y/size.png": encoded(photo(13, 48, 50)),
            "x/size.png": encoded(photo(13, 24, 24)),
            "y/again.png": encoded(photo(0, 48, 48)),
            "x/again.png": encoded(photo(0, 24, 24)),
        }
        problem = check_problem(admin.post_files(files), "bad-pairs")
        found = {item["name"]: item["reason"] for item in problem["items"]}
        assert found.pop("text").startswith("y: The file is not a PNG")
        assert found == {
            "lonely": "y/ has no image of this name",
            "size": "y is 50×48, but 2× the size of x is 48×48",
            "again": "the same image as 000",
        }
        labelled = {**truth_files(1), "labels/000.png": label(differs=True)}
        items = check_problem(admin.post_files(labelled), "bad-pairs")["items"]
        assert items == [{"name": "000", "reason": "has a label"}]
        assert upscaler.calls == []

    def test_skip(self, admin):
        """With "skip" the good ones are used, and the calibration lists the others."""
        files = {**truth_files(2), "y/bad.png": b"text", "y/copy.png": truth_files(1)["y/000.png"]}
        made = admin.create(files, on_bad_pair="skip")
        assert made["n"] == 2
        assert {item["name"] for item in made["skipped"]} == {"bad", "copy"}

    def test_hostile_file_names(self, admin):
        """The name of a form file is only ever the name of a pair."""
        parts = [
            ("y", (name, encoded(photo(k, 48, 48)), "image/png"))
            for k, name in enumerate(["../../etc/passwd.png", "..\\..\\evil.png", "/root/a b.png"])
        ]
        made = admin.made(admin.send("POST", files=parts, data=CONFIG))
        pairs = admin.get(f"/{made['id']}/pairs")
        assert [pair["name"] for pair in pairs] == ["a b", "evil", "passwd"]


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
        for part in ("curve", "backtest", "export"):
            check_problem(admin.send("GET", f"/{job}/{part}"), "conflict")
        check_problem(admin.send("POST", f"/{job}/activate"), "conflict")
        upscaler.gate.set()
        made = admin.made(response)
        assert admin.get(state="pending") == []
        assert admin.get(f"/{job}")["id"] == made["id"]

    def test_unknown(self, client, admin):
        """An unknown id is not found on every path, nor is the job of an upscaling."""
        for path in ("", "/curve", "/backtest", "/export", "/pairs"):
            check_problem(admin.send("GET", f"/cal-unknown{path}"), "not-found")
            check_problem(admin.send("GET", f"/job-unknown{path}"), "not-found")
        files = {"image": ("a.png", encoded(photo(0, 24, 24)), "image/png")}
        job = client.post("/v1/upscale", files=files, headers={"Prefer": "respond-async"}).json()
        check_problem(admin.send("GET", f"/{job['id']}"), "not-found")


class TestScenesAndClasses:
    def test_every_y_is_used_under_every_class(self, admin):
        """Without a degradation each truth makes an input of each class, and counts once."""
        made = admin.create(sharp_files(2), degradation=None)
        assert (made["n"], made["pairs"]) == (2, 2 * len(USUAL.variants()))
        assert made["degradation"] == USUAL.model_dump(mode="json")
        named = {item["name"]: item["n"] for item in made["classes"]}
        assert {"lossless", "jpeg-90", "jpeg-80", "jpeg-68", "jpeg-50"} <= named.keys()
        assert named["jpeg-80"] == 2
        assert made["bound"] == 0.5
        assert admin.get(f"/{made['id']}/backtest")["checks"]["duplicates"] == []
        parts = [f"/{made['id']}/pairs/000~{name}/y.png" for name in ("jpeg-80", "lossless")]
        one, other = (admin.send("GET", part).content for part in parts)
        assert one == other == sharp_files(1)["y/000.png"]

    @pytest.mark.parametrize(
        ("by", "table", "n"),
        [
            (None, "file,scene\n000.png,a\n001.png,a\n", 3),
            ("film", "file,film\n000.png,a\n001.png,a\n", 3),
            ("folder", "", 2),
        ],
        ids=["table", "column", "folder"],
    )
    def test_scenes(self, admin, by, table, n):
        """A scene that two pairs name counts once, everywhere, however it is told."""
        files = truth_files(4)
        if by == "folder":
            files = {f"y/s{k // 2}/{k}.png": data for k, data in enumerate(files.values())}
        if table:
            files["manifest.csv"] = table.encode()
        made = admin.create(files, fields={"scene_by": by} if by else {})
        assert (made["n"], made["pairs"], made["groups"]) == (n, 4, [])
        assert made["min_alpha"] == 0.5 / (n + 1)
        pairs = admin.get(f"/{made['id']}/pairs")
        assert len({pair["scene"] for pair in pairs[:2]} - {None}) == 1
        smaller = admin.send("DELETE", f"/{made['id']}/pairs/{pairs[0]['name']}").json()
        assert (smaller["n"], smaller["pairs"]) == (n, 3)

    def test_a_bound_without_generating(self, admin):
        """Errors are counted up to c from the stored staircases; what was cut cannot come back."""
        made = admin.create(truth_files(4), fidelity={"bound": 1.9576})
        cut = admin.send("POST", f"/{made['id']}/derive", json={"fidelity": {"bound": 0.25}}).json()
        assert (cut["bound"], cut["min_alpha"]) == (0.25, 0.05)
        assert cut["guarantee"] == made["guarantee"]
        for bound, status in ((0.25, 409), (0.5, 409), (1e-300, 422)):
            asked = {"fidelity": {"bound": bound}}
            assert admin.send("POST", f"/{cut['id']}/derive", json=asked).status_code == status


class TestNames:
    def check(self, admin, **asked):
        """The answer about names of files."""
        return admin.client.post("/v1/admin/pairs/check", json=asked, headers=AS_ADMIN)

    def test_the_one_rule(self, admin):
        """The page is told what files of these names would make; folders are groups if asked."""
        names = ["x/day/a.png", "y/day/a.png", "x/b.png"]
        assert self.check(admin, names=names).json() == {
            "pairs": [
                {"name": "day.a", "x": names[0], "y": names[1], "label": None, "group": "day"}
            ],
            "groups": ["day"],
            "items": [{"name": "b", "reason": "y/ has no image of this name"}],
        }
        names = ["p/a.png", "q/a.png"]
        assert self.check(admin, names=names).json()["pairs"] == []
        assert self.check(admin, names=names, folders=True).json()["groups"] == ["p", "q"]

    @pytest.mark.parametrize("asked", [{}, {"names": "a"}, {"names": [1]}, {"names": [], "z": 1}])
    def test_what_is_no_list_of_names(self, admin, asked):
        """A body that is something else is refused."""
        check_problem(self.check(admin, **asked), "bad-request")
