"""The semantic metric over HTTP: predictions first, labels drawn on them, then the calibration."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

from app.calibration import file
from app.upscalers.base import image_digest
from tests.api.admin import Admin, label, truth_files, zipped
from tests.api.gateway import check_problem, pixels
from tests.factories import encoded, photo

SEMANTIC = {"fidelity": {"metric": "semantic"}}
NAMES = ["000", "001", "002"]


@pytest.fixture
def waiting(admin, upscaler) -> str:
    """The id of a job of three pairs that awaits labels."""
    job = admin.ended(admin.post_files(truth_files(3), **SEMANTIC))
    assert (job["state"], job["finished_at"]) == ("awaiting_labels", None)
    return str(job["id"])


def put(admin: Admin, job: str, name: str, data: bytes):
    return admin.send("PUT", f"/{job}/pairs/{name}/label.png", content=data)


def drawn(admin: Admin, job: str) -> dict[str, bool]:
    return {item["name"]: item["labelled"] for item in admin.get(f"/{job}/pairs")}


class TestLabels:
    def test_to_the_end(self, admin, upscaler, waiting):
        """Predictions are shown, labels sent one by one, and the calibration has B = 1."""
        calls = len(upscaler.calls)
        for item in admin.get(f"/{waiting}/pairs"):
            path = f"/{waiting}/pairs/{item['name']}"
            shown = {part: admin.send("GET", f"{path}/{part}.png") for part in ("x", "y")}
            prediction = admin.send("GET", f"{path}/prediction.png")
            assert (item["state"], item["labelled"]) == ("awaiting_label", False)
            assert (item["width"], item["height"]) == (48, 48)
            assert image_digest(pixels(prediction.content)) == item["prediction_sha256"]
            assert pixels(shown["x"].content).shape == (24, 24, 3)
            assert np.array_equal(pixels(shown["y"].content), photo(int(item["name"]), 48, 48))
            assert put(admin, waiting, item["name"], label(differs=True)).status_code == 204
        made = admin.made(admin.send("POST", f"/{waiting}/finish"))
        assert len(upscaler.calls) == calls
        assert (made["n"], made["min_alpha"]) == (3, 0.25)
        assert made["pipeline"]["fidelity"]["bound"] == 1
        data = admin.send("GET", f"/{made['id']}/export").content
        assert {float(s.errors.max()) for s in file.load(data).staircases} == {1.0}

    def test_labels_decide(self, admin, waiting):
        """An all-black label is a loss of nothing at every threshold."""
        for name in NAMES:
            put(admin, waiting, name, label(differs=name == "001"))
        made = admin.made(admin.send("POST", f"/{waiting}/finish"))
        pairs = file.load(admin.send("GET", f"/{made['id']}/export").content)
        assert [float(s.loss(np.inf)) for s in pairs.staircases] == [0, 1, 0]

    def test_missing_labels_are_named(self, admin, waiting):
        """Finishing too early names what is missing, and nothing is lost."""
        put(admin, waiting, "001", label(differs=False))
        problem = check_problem(admin.send("POST", f"/{waiting}/finish"), "bad-pairs")
        assert [item["name"] for item in problem["items"]] == ["000", "002"]
        assert drawn(admin, waiting) == {"000": False, "001": True, "002": False}

    @pytest.mark.parametrize(
        "data", [label(differs=True, side=24), label(differs=True)[:60], b"text", b""]
    )
    def test_refused(self, admin, waiting, data):
        """A label has the size of the prediction and is an image."""
        check_problem(put(admin, waiting, "000", data), "bad-image")
        assert drawn(admin, waiting)["000"] is False

    def test_unknown_pairs(self, admin, waiting):
        """Only pairs of the job have labels and images."""
        check_problem(put(admin, waiting, "999", label(differs=True)), "not-found")
        for part in ("x", "y", "prediction", "label"):
            check_problem(admin.send("GET", f"/{waiting}/pairs/999/{part}.png"), "not-found")
        check_problem(admin.send("GET", f"/{waiting}/pairs/000/label.png"), "not-found")

    def test_only_while_awaited(self, admin, waiting):
        """A job is listed as pending while it awaits labels; a cancelled one takes none."""
        rows = {row["id"]: row["state"] for row in admin.get(state="pending")}
        assert rows[waiting] == "awaiting_labels"
        admin.client.delete(f"/v1/jobs/{waiting}")
        check_problem(put(admin, waiting, "000", label(differs=True)), "conflict")
        check_problem(admin.send("POST", f"/{waiting}/finish"), "conflict")

    def test_jpeg_is_shown_as_png(self, admin):
        """Whatever was uploaded, the images are shown as PNG files."""
        files = {"y/a.jpg": encoded(photo(0, 48, 48), "JPEG")}
        job = admin.ended(admin.post_files(files, **SEMANTIC))
        shown = admin.send("GET", f"/{job['id']}/pairs/a/y.png")
        assert pixels(shown.content).shape == (48, 48, 3)

    def test_audit(self, admin, waiting):
        """Labels and the finish are kept in the audit log."""
        put(admin, waiting, "000", label(differs=True))
        entry = admin.audit()[0]
        assert entry["action"] == "calibration.label"
        assert entry["facts"] == {"job": waiting, "pair": "000", "version": 1}


class TestLabelArchive:
    def post(self, admin: Admin, job: str, files: dict[str, bytes]):
        archive = {"archive": ("labels.zip", zipped(files))}
        return admin.send("POST", f"/{job}/labels", files=archive)

    def test_all_at_once(self, admin, waiting):
        """Labels as an archive; the answer lists all pairs."""
        files = {f"labels/{name}.png": label(differs=True) for name in NAMES}
        answer = self.post(admin, waiting, files).json()
        assert [(item["name"], item["labelled"]) for item in answer] == [(n, True) for n in NAMES]
        assert admin.made(admin.send("POST", f"/{waiting}/finish"))["n"] == 3

    def test_bad_ones_are_named(self, admin, waiting):
        """Each label that cannot be used is named; the good ones are kept."""
        files = {
            "labels/000.png": label(differs=True),
            "labels/001.png": label(differs=True, side=24),
            "labels/999.png": label(differs=True),
            "readme.txt": b"text",
            "y/002.png": label(differs=True),
        }
        problem = check_problem(self.post(admin, waiting, files), "bad-pairs")
        assert {item["name"]: item["reason"] for item in problem["items"]} == {
            "001": "label is 24×24, y is 48×48",
            "999": "no such pair awaits a label",
            "readme.txt": "not an image",
            "002": "y/ holds no labels",
        }
        assert drawn(admin, waiting) == {"000": True, "001": False, "002": False}

    def test_of_other_predictions(self, admin, waiting):
        """With predictions.json, labels that were drawn on something else are refused."""
        items = admin.get(f"/{waiting}/pairs")
        claimed = {item["name"]: item["prediction_sha256"] for item in items}
        labels = {f"labels/{name}.png": label(differs=True) for name in NAMES}
        right = {**labels, "labels/predictions.json": json.dumps(claimed).encode()}
        assert self.post(admin, waiting, right).status_code == 200
        claimed["001"] = "0" * 64
        wrong = {**labels, "labels/predictions.json": json.dumps(claimed).encode()}
        problem = check_problem(self.post(admin, waiting, wrong), "bad-pairs")
        assert [item["name"] for item in problem["items"]] == ["001"]
        versions = {item["name"]: item["label_version"] for item in admin.get(f"/{waiting}/pairs")}
        assert versions == {"000": 2, "001": 1, "002": 2}  # the refused one is not stored

    def test_after_the_finish(self, admin, waiting):
        """A label that comes too late is refused, and the one that was used is shown."""
        files = {f"labels/{name}.png": label(differs=True) for name in NAMES}
        self.post(admin, waiting, files)
        made = admin.made(admin.send("POST", f"/{waiting}/finish"))
        late = admin.send("PUT", f"/{waiting}/pairs/000/label.png", content=label(differs=False))
        check_problem(late, "not-found")
        check_problem(admin.send("POST", f"/{made['id']}/finish"), "not-found")
        shown = admin.send("GET", f"/{made['id']}/pairs/000/label.png")
        assert pixels(shown.content).any()


class TestLabelsWithThePairs:
    @pytest.fixture
    def claimed(self, admin, waiting) -> dict[str, str]:
        """The digests of the predictions that the pipeline makes."""
        items = admin.get(f"/{waiting}/pairs")
        return {item["name"]: item["prediction_sha256"] for item in items}

    def upload(self, claimed: dict[str, str], **labels: bytes) -> dict[str, bytes]:
        drawn = {
            f"labels/{name}.png": labels.get(f"l{name}", label(differs=True)) for name in NAMES
        }
        predictions = {"labels/predictions.json": json.dumps(claimed).encode()}
        return {**truth_files(3), **drawn, **predictions}

    def test_on_these_very_predictions(self, admin, claimed):
        """Labels with the right hashes need no second step."""
        assert admin.create(self.upload(claimed), **SEMANTIC)["n"] == 3

    def test_on_others(self, admin, claimed):
        """A label of another prediction fails the job and is named, or is skipped."""
        files = self.upload({**claimed, "001": hashlib.sha256(b"").hexdigest()})
        job = admin.ended(admin.post_files(files, **SEMANTIC))
        assert (job["state"], job["error"]["type"]) == ("failed", "/problems/bad-pairs")
        assert [item["name"] for item in job["error"]["items"]] == ["001"]
        assert "not drawn on this prediction" in job["error"]["detail"]
        made = admin.create(files, on_bad_pair="skip", **SEMANTIC)
        assert (made["n"], made["skipped"][0]["name"]) == (2, "001")

    def test_without_hashes(self, admin):
        """Labels whose predictions are not named are refused at once."""
        problem = check_problem(admin.post_files(self.upload({}), **SEMANTIC), "bad-pairs")
        assert [item["name"] for item in problem["items"]] == NAMES

    def test_some(self, admin, claimed):
        """Where a label is missing, the job waits for it."""
        files = self.upload(claimed)
        del files["labels/002.png"]
        job = admin.ended(admin.post_files(files, **SEMANTIC))
        assert job["state"] == "awaiting_labels"
        assert drawn(admin, job["id"]) == {"000": True, "001": True, "002": False}

    def test_damaged(self, admin, claimed):
        """A label that is cut off has a good header; the job names its pair."""
        files = self.upload(claimed, l001=label(differs=True)[:-20])
        job = admin.ended(admin.post_files(files, **SEMANTIC))
        assert [item["name"] for item in job["error"]["items"]] == ["001"]

    @pytest.mark.parametrize("text", [b"[]", b"text", b"\xff"])
    def test_unreadable_hashes(self, admin, text):
        """predictions.json must be an object."""
        files = {**truth_files(1), "labels/predictions.json": text}
        check_problem(admin.post_files(files, **SEMANTIC), "bad-pairs")

    def test_a_smaller_bound(self, admin, waiting):
        """A bound below 1 cuts the loss, and the curve stays consistent."""
        config = {"fidelity": {"metric": "semantic", "bound": 0.5}}
        job = admin.ended(admin.post_files(truth_files(1), **config))
        put(admin, job["id"], "000", label(differs=True))
        made = admin.made(admin.send("POST", f"/{job['id']}/finish"))
        assert made["min_alpha"] == 0.25


def test_extended(admin, upscaler):
    """A semantic calibration is extended like any other: only the new labels are awaited."""
    job = admin.ended(admin.post_files(truth_files(1), **SEMANTIC))
    put(admin, job["id"], "000", label(differs=True))
    first = admin.made(admin.send("POST", f"/{job['id']}/finish"))
    more = admin.ended(admin.post_files(truth_files(1, first=5), f"/{first['id']}/pairs"))
    assert more["state"] == "awaiting_labels"
    put(admin, more["id"], "005", label(differs=False))
    longer = admin.made(admin.send("POST", f"/{more['id']}/finish"))
    assert longer["n"] == 2
    with zipfile.ZipFile(io.BytesIO(admin.send("GET", f"/{longer['id']}/export").content)) as kept:
        assert set(kept.namelist()) == {"calibration.json", "staircases.npy", "pairs.npy"}
