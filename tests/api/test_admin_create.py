"""Creating calibrations over HTTP: every form of upload, every bad pair; and new upscalers."""

import asyncio
from fractions import Fraction
from urllib.parse import quote

import pytest

from harness.admin import Admin, sharp_files, truth_files, zipped
from harness.factories import photo
from harness.fakes import FakeUpscaler
from harness.gateway import AS_ADMIN, check_problem
from harness.pictures import TOKEN
from harness.waiting import PATIENCE_S
from tests.live import serving
from tests.upscalers.test_connect import answering
from trustscale_server.calibrating.fit import FIT_DIGITS
from trustscale_server.calibration.guarantee_kinds import Expectation
from trustscale_server.calibration.guarantees import ROBUST
from trustscale_server.http.routes.calibrate import MAX_FILES
from trustscale_server.kinds.classes import class_of_way
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.sampling import spec
from trustscale_server.sampling.sigma.fits import Fit
from trustscale_server.upscalers.base import Capabilities, image_digest


def test_an_empty_config(admin):
    """It is a whole one: each truth makes an input of each class, and counts once."""
    files = {"archive": ("a.zip", zipped(sharp_files(1)))}
    made = admin.made(admin.send("POST", files=files))
    assert made["provenance"]["created_by"].startswith("key ")
    pipeline = made["pipeline"]
    assert (made["default_alpha"], made["bound"], pipeline["samples"]) == (0.05, 0.25, 1)
    assert pipeline["indecision"]["estimator"] == "departure"
    assert pipeline["fidelity"]["metric"] == "neighborhood"
    assert made["degradation"] == TYPICAL_UPLOADS.model_dump(mode="json")
    assert (made["n"], made["pairs"]) == (1, len(TYPICAL_UPLOADS.variants()))
    named = {item["name"]: item["n"] for item in made["classes"]}
    assert (
        {"heic", "palette"}
        <= named.keys()
        <= {class_of_way(way) for way in TYPICAL_UPLOADS.variants()}
    )
    pairs = admin.get(f"/{made['id']}/pairs")
    assert {pair["name"].partition("~")[0] for pair in pairs} == {"000"}
    assert all(len(pair["y_sha256"]) == 64 and pair["spots"] == 1 for pair in pairs)
    named = [pair["name"] for pair in pairs]
    for name in ("000~jpeg-85", "000~soft-lossy"):
        path = f"/{made['id']}/pairs/{quote(name, safe='')}/y.png"
        shown = admin.send("GET", path).content
        assert shown == sharp_files(1)["y/000.png"]
        place = admin.get(f"/{made['id']}/pairs/{quote(name, safe='')}/worst")
        assert place["box"][2] > place["box"][0]
        assert 0 < place["badness"] <= 1


def test_the_time_of_pairs_that_people_label(start):
    """A model in this process is tried for it, and the trial needs no label."""
    by_tiles = Capabilities(concurrency=4, by_tiles=True)
    admin = Admin(start(FakeUpscaler(capabilities=by_tiles), calibrations=()))
    planned = admin.post_files(
        truth_files(2), fields={"dry_run": "true"}, fidelity={"metric": "semantic"}
    )
    assert planned.status_code == 200
    assert planned.json()["estimate_s"] is not None
    job = admin.ended(admin.post_files(truth_files(2), fidelity={"metric": "semantic"}))
    assert job["state"] == "awaiting_labels"


def test_pairs_are_stored_side_by_side(start, monkeypatch):
    """A store takes its time for each, and others meanwhile."""
    admin = Admin(start(embedded_job_worker=False))
    blobs = type(admin.client.app_state["trustscale"].services.stores.blobs)
    put, two, running = blobs.put, asyncio.Event(), []

    async def slow(store, folder, name, data):
        if name.startswith("y/"):
            running.append(name)
            if len(running) == 2:
                two.set()
            async with asyncio.timeout(PATIENCE_S):
                await two.wait()
        await put(store, folder, name, data)

    monkeypatch.setattr(blobs, "put", slow)
    assert admin.post_files(truth_files(2)).status_code == 202


class TestRefused:
    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ("[]", "config"),
            ('{"sample": 8}', "sample: there is no such name; did you mean samples"),
            ('{"default_alpha": NaN}', "default_alpha"),
            ('{"fidelity": {"metrc": "semantic"}}', "fidelity.metrc: there is no such name; did"),
            ('{"fidelity": {"metric": []}}', "fidelity.metric"),
            ('{"degradation": {"jpeg": 0}}', "degradation.jpeg"),
        ],
    )
    def test_a_config(self, admin, upscaler, config, words):
        files = {"archive": ("a.zip", zipped(truth_files(1)))}
        response = admin.send("POST", files=files, data={"config": config})
        assert words in check_problem(response, "bad-request")["detail"]
        assert upscaler.calls == []

    def test_what_the_upscaler_cannot_do(self, admin, upscaler):
        unknown = admin.post_files(truth_files(1), upscaler="other")
        assert "'other'" in check_problem(unknown, "not-found")["detail"]
        upscaler.capabilities = Capabilities(max_samples=4)
        response = admin.post_files(truth_files(1), samples=5)
        assert "at most 4 samples" in check_problem(response, "bad-request")["detail"]

    def test_forms(self, admin):
        assert "send archive" in check_problem(admin.send("POST"), "bad-pairs")["detail"]
        check_problem(admin.post_files(b"text"), "unsupported-media")
        both = [("archive", ("a.zip", zipped(truth_files(1)))), ("y", ("b.png", b"x"))]
        check_problem(admin.send("POST", files=both), "bad-request")
        many = [("y", (f"{k}.png", b"x")) for k in range(MAX_FILES + 1)]
        problem = check_problem(admin.send("POST", files=many), "image-too-large")
        assert problem["limit"] == "max_files"


def test_scenes(admin):
    """A scene that two pairs name counts once; its errors are then counted up to another c."""
    files = {**truth_files(4), "manifest.csv": b"file,film\n000.png,a\n001.png,a\n"}
    made = admin.create(files, fields={"scene_by": "film"})
    assert (made["n"], made["pairs"], made["groups"]) == (3, 4, [])
    usual = Expectation(robust=ROBUST)
    assert made["min_alpha"] == usual.min_alpha(0.25, [Fraction(1)] * 3)
    pairs = admin.get(f"/{made['id']}/pairs")
    assert pairs[0]["scene"] == pairs[1]["scene"] != pairs[2]["scene"]
    derive = f"/{made['id']}/derive"
    cut = admin.send("POST", derive, json={"fidelity": {"bound": 0.1}}).json()
    assert (cut["bound"], cut["min_alpha"]) == (0.1, usual.min_alpha(0.1, [Fraction(1)] * 3))
    assert (cut["guarantee"]["robust"], ROBUST) == (1.25, 1.25)
    plain = admin.send("POST", derive, json={"guarantee": {"kind": "expectation", "robust": 1}})
    assert plain.json()["min_alpha"] == 0.25 / 4
    likely = admin.send("POST", derive, json={"guarantee": {"kind": "high_probability"}})
    assert likely.json()["guarantee"]["robust"] == 1.25  # as of the parent
    for bound, status in ((0.5, 409), (1e-300, 422)):
        asked = {"fidelity": {"bound": bound}}
        assert admin.send("POST", derive, json=asked).status_code == status


def test_photographs_of_the_fit(admin, monkeypatch):
    """They are named by their pixels before any file is sent; other photographs are not."""
    seen, other = (image_digest(photo(k, 48, 48)) for k in (0, 1))
    fit = Fit(weights=(("detail@0", 1.0),), photographs=(seen[:FIT_DIGITS],))
    monkeypatch.setattr(spec, "shipped_for", lambda *_: (fit,))
    digests = {"y/a.png": seen, "y/b.png": other}

    def check(**more):
        asked = {"names": [*digests], "pixels": digests, **more}
        return admin.client.post("/v1/admin/pairs/check", json=asked, headers=AS_ADMIN)

    found = check().json()
    assert (found["used"], len(found["pairs"])) == (["a"], 2)
    check_problem(check(upscaler="no"), "not-found")
    check_problem(check(metric="no"), "bad-request")


PROBE = "/v1/admin/upscalers/probe"


def test_a_token_that_cannot_be_sent(client):
    """It is refused before anything is asked, and not shown."""
    wish = {"address": "http://127.0.0.1:9", "token": "ключ"}
    problem = check_problem(client.post(PROBE, json=wish, headers=AS_ADMIN), "bad-request")
    assert "characters that no token has" in problem["detail"]
    assert "ключ" not in problem["detail"]


def test_an_admin_may(client, start):
    """Private addresses where the operator allows them; files never; the key is kept nowhere."""
    with serving(answering()) as address:
        wish = {"address": f"http://{address}", "token": TOKEN, "settings": {"price_per_call": 2}}
        private = client.post(PROBE, json=wish, headers=AS_ADMIN)
        way = "name connect in allow_private_networks, or run `trustscale connect ADDRESS`"
        assert way in check_problem(private, "bad-request")["detail"]
        opened = start(allow_private_networks=["connect"])

        def ask(**more):
            return opened.post(PROBE, json={**wish, **more}, headers=AS_ADMIN)

        looked = ask().json()
        assert (looked["tried"], looked["scale"]) == (False, None)
        cost = looked["calibration"]
        assert cost["price"] == 2 * cost["calls"] == 2 * (cost["pictures"] * cost["kinds"] + 8)
        tried = ask(call=True)
        assert tried.json()["entry"]["answer"] == {"image": "json", "pointer": "/b"}
        assert 'token_env = "UPSCALER_TOKEN"' in tried.json()["toml"]
        assert TOKEN not in tried.text
        check_problem(ask(address="model.onnx"), "bad-request")
        check_problem(ask(address="x://../../etc/model.onnx"), "bad-request")
        for kind in ("embedded", []):
            check_problem(ask(settings={"kind": kind, "model": "/dev/zero"}), "bad-request")
        said = check_problem(
            ask(settings={"token_env": "A", "concurency": 1}, call=True), "bad-request"
        )
        assert "did you mean concurrency" in said["detail"]
        check_problem(ask(settings={"price_per_call": "much"}), "bad-request")
        assert TOKEN not in str(check_problem(ask(call="perhaps", token=[TOKEN]), "bad-request"))
