"""The pictures and labels of pairs over HTTP, and the semantic metric that people label."""

import hashlib
import json

import numpy as np
import pytest

from harness.admin import Admin, label, truth_files
from harness.factories import encoded, photo
from harness.gateway import check_problem, pixels
from harness.gateway import post as upscaled
from trustscale_server.calibrating import pair_pictures
from trustscale_server.calibration import file
from trustscale_server.upscalers.base import image_digest

SEMANTIC = {"fidelity": {"metric": "semantic"}, "guarantee": {"kind": "expectation", "robust": 1}}
NAMES = ["000", "001", "002"]
BLACK, SQUARE = label(differs=False), label(differs=True)
SMALL = label(differs=True, side=24)


@pytest.fixture
def waiting(admin, upscaler):
    job = admin.ended(admin.post_files(truth_files(3), **SEMANTIC))
    assert (job["state"], job["finished_at"]) == ("awaiting_labels", None)
    return str(job["id"])


def put(admin, job, name, data, **headers):
    conditions = {header.replace("_", "-"): value for header, value in headers.items()}
    return admin.send("PUT", f"/{job}/pairs/{name}/label.png", content=data, headers=conditions)


def finish(admin, job):
    return admin.made(admin.send("POST", f"/{job}/finish"))


def drawn(admin, job):
    return {item["name"]: item["labelled"] for item in admin.get(f"/{job}/pairs")}


def reasons(response):
    return {item["name"]: item["reason"] for item in check_problem(response, "bad-pairs")["items"]}


class TestLabels:
    def test_to_the_end(self, admin, upscaler, waiting):
        """Predictions are shown, labels sent one by one, and they decide the losses."""
        calls = len(upscaler.calls)
        for item in admin.get(f"/{waiting}/pairs"):
            path = f"/{waiting}/pairs/{item['name']}"
            x, y, prediction = (
                pixels(admin.send("GET", f"{path}/{part}.png").content)
                for part in ("x", "y", "prediction")
            )
            assert (item["state"], item["labelled"]) == ("awaiting_label", False)
            assert (item["width"], item["height"], x.shape) == (48, 48, (24, 24, 3))
            assert image_digest(prediction) == item["prediction_sha256"]
            assert np.array_equal(y, photo(int(item["name"]), 48, 48))
            if item["name"] == "002":  # finishing too early names what is missing
                assert reasons(admin.send("POST", f"/{waiting}/finish")).keys() == {"002"}
            data = SQUARE if item["name"] == "001" else BLACK
            assert put(admin, waiting, item["name"], data).status_code == 204
        made = finish(admin, waiting)
        assert len(upscaler.calls) == calls
        assert (made["n"], made["min_alpha"]) == (3, 0.25)
        pairs = file.load(admin.send("GET", f"/{made['id']}/export").content)
        assert [float(s.losses(np.inf)) for s in pairs.arrays.loss_curves] == [0, 1, 0]

    def test_what_is_refused(self, admin, waiting):
        """What is none, and what comes when none is awaited any more."""
        rows = {row["id"]: row["state"] for row in admin.get(state="pending")}
        assert rows[waiting] == "awaiting_labels"
        for data in (SMALL, SQUARE[:60], b"text", b""):
            check_problem(put(admin, waiting, "000", data), "bad-image")
        assert drawn(admin, waiting)["000"] is False
        check_problem(put(admin, waiting, "999", SQUARE), "not-found")
        for path in ("999/prediction", "000/label"):
            check_problem(admin.send("GET", f"/{waiting}/pairs/{path}.png"), "not-found")
        # A condition that is not understood is refused, not ignored.
        for header in ({"if_match": "*"}, {"if_match": '"x"'}, {"if_none_match": '"v1"'}):
            check_problem(put(admin, waiting, "000", BLACK, **header), "bad-request")
        admin.client.delete(f"/v1/jobs/{waiting}")
        check_problem(put(admin, waiting, "000", SQUARE), "conflict")
        check_problem(admin.send("POST", f"/{waiting}/finish"), "conflict")

    def test_two_annotators(self, admin, waiting):
        """Of two who have seen the same label the second gets 412, and nothing of his is stored."""
        assert put(admin, waiting, "000", BLACK, if_none_match="*").headers["etag"] == '"v1"'
        second = put(admin, waiting, "000", BLACK, if_none_match="*")
        check_problem(second, "conflict", 412)
        assert put(admin, waiting, "000", SQUARE, if_match='"v1"').headers["etag"] == '"v2"'
        second = put(admin, waiting, "000", BLACK, if_match='"v1"')
        assert check_problem(second, "conflict", 412)["version"] == 2
        shown = admin.send("GET", f"/{waiting}/pairs/000/label.png")
        assert shown.headers["etag"] == '"v2"'
        assert pixels(shown.content).any()
        for name in NAMES:
            put(admin, waiting, name, BLACK)
        made = finish(admin, waiting)
        pairs = file.load(admin.send("GET", f"/{made['id']}/export").content)
        assert [len(curve) for curve in pairs.arrays.loss_curves] == [0, 0, 0]
        assert not pixels(admin.send("GET", f"/{made['id']}/pairs/000/label.png").content).any()


def test_labels_with_the_pairs(admin, waiting):
    """Each is for the prediction that was drawn on, and for no other."""
    claimed = {item["name"]: item["prediction_sha256"] for item in admin.get(f"/{waiting}/pairs")}

    def upload(claimed, names=NAMES):
        labels = {f"labels/{name}.png": SQUARE for name in names}
        predictions = {"labels/predictions.json": json.dumps(claimed).encode()}
        return admin.post_files({**truth_files(3), **labels, **predictions}, **SEMANTIC)

    assert admin.made(upload(claimed))["n"] == 3
    job = admin.ended(upload(claimed, NAMES[:2]))
    assert job["state"] == "awaiting_labels"
    assert drawn(admin, job["id"]) == {"000": True, "001": True, "002": False}
    job = admin.ended(upload({**claimed, "001": hashlib.sha256(b"").hexdigest()}))
    assert [item["name"] for item in job["error"]["items"]] == ["001"]
    assert "not drawn on this prediction" in job["error"]["detail"]


@pytest.mark.slow
def test_text(fresh):
    """Words that a text reader reads lose, of the version that the record names, and no other."""
    config = {"fidelity": {"metric": "text"}, "guarantee": SEMANTIC["guarantee"]}
    made = fresh.create(truth_files(2), **config, activate=True, force=True)
    assert (made["n"], made["min_alpha"], made["state"]) == (2, 1 / 3, "active")
    recorded = made["pipeline"]["fidelity"]
    assert recorded.items() >= {"metric": "text", "bound": 1, "unit": "words"}.items()
    assert recorded["reader"]["name"] == "rapidocr"
    assert made["pipeline"]["indecision"]["estimator"] == "reading"
    answer = upscaled(fresh.client, alpha=0.5, words="true").json()
    assert answer["words"] == []  # of a photograph without any
    plain = answer["guarantee"]["plain"]
    assert plain.startswith("Of the words called right at most 50 % are wrong, on average over")
    other = {"metric": "text", "reader": {"name": "rapidocr", "version": "1.0"}}
    refused = fresh.post_files(truth_files(2), fidelity=other)
    assert "needs rapidocr 1.0" in check_problem(refused, "bad-request")["detail"]


@pytest.fixture(scope="module")
def made(shared):
    return Admin(shared[0]).create(truth_files(4))


def shown(admin, calibration, name, part):
    response = admin.send("GET", f"/{calibration}/pairs/{name}/{part}.png")
    assert response.headers["content-type"] == "image/png"
    return pixels(response.content)


class TestPictures:
    def test_derived(self, admin, made):
        """A calibration that extends or shortens another one shows the pairs of both jobs."""
        longer = admin.made(admin.post_files(truth_files(1, first=50), f"/{made['id']}/pairs"))
        assert np.array_equal(shown(admin, longer["id"], "050", "y"), photo(50, 48, 48))
        y, old = (shown(admin, longer["id"], "002", part) for part in ("y", "prediction"))
        assert 0 < np.abs(old.astype(int) - y).mean() < 50
        assert image_digest(old) == image_digest(shown(admin, made["id"], "002", "prediction"))
        shorter = admin.send("DELETE", f"/{longer['id']}/pairs/001").json()
        assert np.array_equal(shown(admin, shorter["id"], "050", "y"), photo(50, 48, 48))

    def test_no_longer(self, admin):
        """When the job has expired there are none, nor of a calibration that was deleted."""
        job = admin.ended(admin.post_files({"y/a.jpg": encoded(photo(70, 48, 48), "JPEG")}))
        made = job["result"].rsplit("/", 1)[-1]
        assert shown(admin, made, "a", "y").shape == (48, 48, 3)  # a PNG file, whatever was sent
        blobs = admin.client.app_state["trustscale"].services.stores.blobs
        admin.client.portal.call(blobs.delete, job["id"])
        gone = check_problem(admin.send("GET", f"/{made}/pairs/a/y.png"), "not-found")
        assert "no longer" in gone["detail"]
        assert admin.send("DELETE", f"/{made}").status_code == 204
        assert not admin.client.portal.call(blobs.names, f"{pair_pictures.PICTURES_KEY}{made}")
