"""Calibrations that exist: read, extended, moved, activated and removed over HTTP."""

import asyncio
import json
import math
import threading
import time

import pytest

from harness.admin import BASE, SAMPLES, Admin, pair_files, sharp_files, truth_files
from harness.factories import SIDE, calibration_of, changed, encoded, sharp
from harness.fakes import FakeUpscaler
from harness.gateway import AS_ADMIN, PATIENT, aside, check_problem, ended, gateway, post
from harness.waiting import until
from trustscale_server.calibration import active, file, soundness
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.guarantee_kinds import HighProbability
from trustscale_server.calibration.insight import COMMON_ALPHAS
from trustscale_server.calibration.priority import CalibrationPriority
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.sampling.spec import TRUST_LAYER_VERSION

FIDELITY = FidelitySettings(spot=SIDE, bound=0.25)


@pytest.fixture(scope="module")
def calibration():
    """As the settings of those that are made over HTTP are: errors count up to .25."""
    return aside(calibration_of(FakeUpscaler(), fidelity=FIDELITY))


@pytest.fixture(scope="module")
def made(shared):
    """A calibration of six truths that was made over HTTP and is not active."""
    vars(shared[1]).clear()
    shared[1].__init__()
    return Admin(shared[0]).create(truth_files(6), name="made")


def exported(admin, calibration_id):
    response = admin.send("GET", f"/{calibration_id}/export")
    assert response.status_code == 200
    return response.content


def test_reading(admin, calibration, made):
    rows = admin.get()
    assert rows == sorted(rows, key=lambda row: row["created_at"], reverse=True)
    by_id = {row["id"]: row for row in rows}
    assert (by_id[calibration.id]["active"], by_id[made["id"]]["active"]) == (True, False)
    assert (by_id[made["id"]]["n"], by_id[made["id"]]["name"]) == (6, "made")
    assert admin.get(upscaler="other") == []
    check_problem(admin.send("GET", params={"state": "lost"}), "bad-request")

    shown = admin.get(f"/{calibration.id}")
    assert (shown["state"], shown["n"], shown["pairs"]) == ("active", 30, 30)
    assert shown["min_alpha"] == calibration.curve.min_alpha
    assert [row["alpha"] for row in shown["thresholds"]] == list(COMMON_ALPHAS)
    for row in shown["thresholds"]:
        assert float(row["threshold"]) == calibration.curve.threshold(row["alpha"])
    assert shown["pipeline"] == calibration.pipeline.model_dump(mode="json")
    # Infinite ones are the strings of the contract, so every parser reads the answer.
    text = admin.send("GET", f"/{made['id']}").text
    assert "Infinity" not in text
    assert math.isinf(float(json.loads(text)["thresholds"][0]["threshold"]))

    report = admin.get(f"/{calibration.id}")["report"]
    assert [row["alpha"] for row in report["rows"]] == list(COMMON_ALPHAS)
    checks = report["checks"]
    assert (checks["n"], checks["sizes"], checks["duplicates"]) == (30, ["48x48"], [])


def test_a_report_is_computed_once(admin, made, monkeypatch):
    """With the calibration; later only what is kept is read, until it is deleted."""
    computed = []
    monkeypatch.setattr(
        active, "report_of", lambda subset: computed.append(subset) or soundness.report_of(subset)
    )
    assert admin.get(f"/{made['id']}")["report"] == made["report"]
    assert computed == []
    smaller = admin.send("DELETE", f"/{made['id']}/pairs/002").json()
    for _ in range(2):
        assert admin.get(f"/{smaller['id']}")["report"] == smaller["report"]
    assert len(computed) == 1


async def test_a_client_leaves(serve, calibration, monkeypatch):
    """Reports take seconds: two threads at most, and others are answered meanwhile."""
    begun = []

    def endless(*_, before_split, **__):
        begun.append(threading.current_thread())
        try:
            while True:
                before_split()
                time.sleep(0.001)
        finally:
            begun.remove(threading.current_thread())

    monkeypatch.setattr(soundness, "backtest", endless)
    path = f"{BASE}/{calibration.id}"
    async with serve() as served:
        waiting = [served.hanging("GET", path, headers=AS_ADMIN) for _ in range(8)]
        await until(lambda: len(begun) == 2)
        assert (await served.post()).status_code == 200
        assert len(begun) == 2
        for left in waiting:
            left.leave()
        for left in waiting:
            await left.hang_up()
        await until(lambda: not begun)


async def test_the_service_stops(serve, calibration, monkeypatch):
    """It waits for no report, and says so."""
    begun = []

    def endless(*_, before_split, **__):
        begun.append(1)
        while True:
            before_split()
            time.sleep(0.001)

    monkeypatch.setattr(soundness, "backtest", endless)
    async with serve(timings=PATIENT._replace(drain_s=0.01)) as served:
        path = f"{BASE}/{calibration.id}"
        asked = asyncio.create_task(served.client.get(path, headers=AS_ADMIN))
        await until(lambda: begun)
        served.state.stopping.set()
        check_problem(await asked, "overloaded")


class TestExtend:
    def test_only_new_pairs_are_generated(self, admin, upscaler, made):
        """The old loss curves are used again, bit for bit; the new calibration names its parent."""
        before = len(upscaler.calls)
        longer = admin.made(admin.post_files(truth_files(2, first=50), f"/{made['id']}/pairs"))
        assert len(upscaler.calls) - before == 2 * SAMPLES
        assert (longer["n"], longer["provenance"]["parent"]) == (8, made["id"])
        assert longer["name"] == "made"
        old = file.load(exported(admin, made["id"]))
        new = file.load(exported(admin, longer["id"]))
        names = [pair.name for pair in new.manifest.pairs]
        for pair, loss_curve in zip(old.manifest.pairs, old.arrays.loss_curves, strict=True):
            assert new.arrays.loss_curves[names.index(pair.name)] == loss_curve

    def test_what_does_not_belong(self, admin, upscaler, made):
        """Pairs that exist, of another origin, or of another upscaler are refused, unpaid."""
        given = admin.create(pair_files(1))
        calls, path = len(upscaler.calls), f"/{made['id']}/pairs"
        items = check_problem(admin.post_files(truth_files(1), path), "bad-pairs")["items"]
        assert [item["name"] for item in items] == ["000"]
        # Given X and X made by degradation are different populations.
        more = truth_files(1, first=70)
        check_problem(admin.post_files(more, f"/{given['id']}/pairs"), "conflict")
        files = {name.replace("/", "/new"): data for name, data in pair_files(1, side=50).items()}
        check_problem(admin.post_files(files, path), "conflict")
        upscaler.fingerprint = "fake:2"
        check_problem(admin.post_files(more, path), "calibration-mismatch")
        assert len(upscaler.calls) == calls


@pytest.mark.parametrize("older", ["version", "rule", "trust_layer"])
def test_of_an_older_release(start, tmp_path, calibration, monkeypatch, older):
    """It answers nothing, in words; whatever is asked of it is no fault of the service."""
    old = changed(
        calibration,
        pipeline={
            **calibration.document["pipeline"],
            "input_rule": "upload/1" if older == "rule" else None,
            "trust_layer": 0 if older == "trust_layer" else TRUST_LAYER_VERSION,
        },
    )
    with monkeypatch.context() as then:
        then.setattr(file, "VERSION", file.VERSION - (older == "version"))
        blob = file.dump(old)
        gateway(tmp_path, calibrations=[old])
    client, is_read = start(calibrations=()), older != "version"
    admin = Admin(client)
    problem = "calibration-mismatch" if is_read else "no-calibration"
    asked = check_problem(post(client), problem)
    words = f"({'input_rule' if older == 'rule' else older} differ)" if is_read else "reads version"
    assert words in asked["detail"]
    (shown,) = client.get("/v1/upscalers").json()
    assert shown["calibration"] == (old.id if is_read else None)
    assert client.get("/v1/upscalers", params={"brief": True}).json()[0]["calibration"] == old.id
    assert client.get("/readyz").json()["components"]["upscaler:fake"]["ready"] is False
    for path in ("/metrics", BASE):
        assert client.get(path, headers=AS_ADMIN).status_code == 200
    for answer in (
        admin.send("POST", "/import", content=blob, params={"activate": True}),
        admin.send("GET", f"/{old.id}"),
        admin.send("GET", f"/{old.id}/export"),
        admin.post_files(truth_files(1), f"/{old.id}/pairs"),
        admin.send("POST", f"/{old.id}/derive", json={"guarantee": {"kind": "post_hoc"}}),
        admin.send("POST", f"/{old.id}/activate"),
    ):
        assert answer.status_code in {200, 201, 409, 422}
    new = admin.create(truth_files(4), activate=True, force=True)
    assert post(client).status_code == 200
    assert admin.send("DELETE", f"/{old.id}").status_code == 204
    assert client.get("/v1/upscalers").json()[0]["calibration"] == new["id"]


def test_without_generation(admin, upscaler, made):
    response = admin.send("DELETE", f"/{made['id']}/pairs/002")
    smaller = response.json()
    assert response.status_code == 201
    assert response.headers["location"].endswith(smaller["id"])
    assert (smaller["n"], smaller["provenance"]["parent"]) == (5, made["id"])
    assert smaller["skipped"][-1]["name"] == "002"
    assert upscaler.calls == []
    assert admin.get(f"/{made['id']}")["n"] == 6
    check_problem(admin.send("DELETE", f"/{made['id']}/pairs/999"), "not-found")
    expected = {name: data for name, data in truth_files(6).items() if "002" not in name}
    again = admin.create(expected)
    assert smaller["thresholds"] == again["thresholds"]
    # A calibration without pairs has no meaning, and halves need two.
    one = admin.create(truth_files(1))
    assert one["report"]["rows"] == []
    check_problem(admin.send("DELETE", f"/{one['id']}/pairs/000"), "conflict")


def test_round_trip(fresh, made, admin):
    """An exported file has a name, and imports elsewhere with its id, again to no effect."""
    response = admin.send("GET", f"/{made['id']}/export")
    assert response.headers["content-type"] == file.MEDIA_TYPE
    named = f'attachment; filename="{made["id"]}.calibration"'
    assert response.headers["content-disposition"] == named
    data = response.content
    assert file.load(data).id == made["id"]
    before = len(fresh.get())
    for sent in ({"content": data}, {"files": {"file": ("a", data)}}):
        response = fresh.send("POST", "/import", **sent)
        assert (response.status_code, response.json()["id"]) == (201, made["id"])
        assert response.headers["location"].endswith(made["id"])
    assert len(fresh.get()) == before + 1
    assert exported(fresh, made["id"]) == data


def test_deleting_the_active_one(start, calibration):
    """It cannot be deleted; another one can, and is gone everywhere, who had read it or not."""
    first, second = Admin(start()), Admin(start(embedded_job_worker=False))
    made = first.create(truth_files(1))["id"]
    assert second.get(f"/{made}")["id"] == made
    check_problem(first.send("DELETE", f"/{calibration.id}"), "conflict")
    assert first.send("DELETE", f"/{made}").status_code == 204
    parts = (("GET", ""), ("GET", "/export"), ("POST", "/activate"), ("DELETE", ""))
    for admin in (first, second):
        for method, path in parts:
            check_problem(admin.send(method, f"/{made}{path}"), "not-found")
        assert [row["id"] for row in admin.get()] == [calibration.id]


class TestGuard:
    def test_activation(self, admin, upscaler, calibration):
        """A calibration of another pipeline is not activated: each field is named with values."""
        pipeline = {**calibration.document["pipeline"], "fingerprint": "fake:0"}
        other = changed(calibration, pipeline=pipeline)
        imported = admin.send("POST", "/import", content=file.dump(other))
        assert imported.status_code == 201
        assert [one["field"] for one in imported.json()["differences"]] == ["fingerprint"]
        refused = admin.send("POST", f"/{other.id}/activate")
        assert check_problem(refused, "calibration-mismatch")["differences"] == [
            {"field": "fingerprint", "calibrated": "fake:0", "live": "fake:1"}
        ]
        refused = admin.send("POST", "/import", content=file.dump(other), params={"activate": True})
        check_problem(refused, "calibration-mismatch")
        assert post(admin.client).json()["calibration"] == calibration.id

    def test_every_request(self, client, upscaler):
        assert (post(client).status_code, client.get("/readyz").status_code) == (200, 200)
        upscaler.fingerprint = "fake:2"
        difference = {"field": "fingerprint", "calibrated": "fake:1", "live": "fake:2"}
        problem = check_problem(post(client), "calibration-mismatch")
        assert problem["differences"] == [difference]
        assert "Calibrate again" in problem["detail"]
        ready = client.get("/readyz")
        component = ready.json()["components"]["upscaler:fake"]
        assert ready.status_code == 503
        assert component["differences"] == [{**difference, "settings": None}]
        upscaler.fingerprint = "fake:1"
        assert (post(client).status_code, client.get("/readyz").status_code) == (200, 200)


@pytest.fixture
async def few(upscaler):
    """Three pairs: a smallest α of .0625, above the default α."""
    return await calibration_of(upscaler, 3, fidelity=FIDELITY)


def check_refused(response, refused, active):
    problem = check_problem(response, "conflict")
    smallest = problem["changes"]["min_alpha"]
    assert smallest["before"] == active.curve.min_alpha < 0.05 < smallest["after"]
    area = problem["changes"]["trusted_area"]
    assert area["after"] == 0 < area["before"]
    assert refused in problem["detail"]
    assert "force" in problem["detail"]


def trusted(calibration):
    area = calibration.everything.mean_trusted_fraction(calibration.curve.threshold(0.05))
    assert area > 0
    return area


def test_activate(start, calibration):
    """409 with both figures, else the next request of any gateway is served from it, and back."""
    fresh, other = Admin(start()), Admin(start(embedded_job_worker=False))

    def activate(asked, **body):
        return fresh.send("POST", f"/{asked}/activate", json=body)

    made = fresh.create(truth_files(3))["id"]
    check_refused(fresh.send("POST", f"/{made}/activate"), made, calibration)
    check_refused(activate(made, force=False), made, calibration)
    check_problem(activate(made, forced=True), "bad-request")
    assert post(fresh.client).json()["calibration"] == calibration.id
    done = activate(made, force=True).json()
    assert (done["calibration"], done["previous"]) == (made, calibration.id)
    assert done["changes"]["alpha"] == 0.05
    assert done["changes"]["default_alpha"] == {"before": 0.05, "after": 0.05}
    assert done["changes"]["trusted_area"]["after"] == 0
    assert post(other.client).json()["calibration"] == made
    # The active one needs no force, however bad it is, nor does a better one.
    assert activate(made).json()["previous"] == calibration.id
    back = activate(calibration.id).json()
    assert back["previous"] == made
    assert back["changes"]["trusted_area"] == {"before": 0, "after": trusted(calibration)}
    assert post(other.client).json()["calibration"] == calibration.id


def test_several(start):
    """Each upload is answered from the first that covers its class, until one is the only one."""
    admin = Admin(start(calibrations=()))
    old, new = (
        admin.create(sharp_files(4), degradation=made, samples=2, name=name)["id"]
        for name, made in (("old", {"mixture": [{}, {"jpeg": 80}]}), ("new", {}))
    )

    def activate(asked, **how):
        return admin.send("POST", f"/{asked}/activate", json={"force": True, **how}).json()

    def answered():
        images = (encoded(sharp()), encoded(sharp(), "JPEG", quality=80))
        return [post(admin.client, image).json()["calibration"] for image in images]

    activate(old)
    done = activate(new)
    told = [("new", ["lossless"]), ("old", ["jpeg-65"])]
    assert [(one["name"], one["classes"]) for one in done["calibrations"]] == told
    assert (done["calibration"], done["previous"], done["lost"]) == (new, old, [])
    assert answered() == [new, old]
    (listed,) = admin.client.get("/v1/upscalers").json()
    assert listed["calibrations"] == done["calibrations"]
    assert {row["name"] for row in listed["classes"]} == {"lossless", "jpeg-65"}
    assert {row["id"] for row in admin.get() if row["active"]} == {old, new}
    check_problem(admin.send("DELETE", f"/{old}"), "conflict")

    done = activate(new, only=True)
    assert ([one["id"] for one in done["calibrations"]], done["lost"]) == ([new], ["jpeg-65"])
    assert answered() == [new, new]
    # What would answer nothing behind another one does not stay.
    activate(new)
    assert [one["id"] for one in activate(old)["calibrations"]] == [old]
    assert admin.send("DELETE", f"/{new}").status_code == 204


def test_before_it_is_stored(fresh, calibration, few):
    """An import and a derivation that would serve worse are refused whole, unless forced."""
    asked = {"guarantee": {"kind": "high_probability", "delta": 1e-9}, "activate": True}
    params = {"activate": True}

    def imported():
        return fresh.send("POST", "/import", content=file.dump(few), params=params)

    def derived():
        return fresh.send("POST", f"/{calibration.id}/derive", json=asked)

    check_refused(imported(), few.id, calibration)
    check_problem(derived(), "conflict")
    assert [row["id"] for row in fresh.get()] == [calibration.id]
    params["force"] = asked["force"] = True
    assert derived().json()["state"] == imported().json()["state"] == "active"


def test_both_are_judged_over_the_same_pictures(calibration, few):
    """So that only the threshold differs; where scores differ that cannot be, and is said."""
    changes = ServingChanges.between(few, calibration)
    alpha = few.manifest.default_alpha
    same = few.everything.mean_trusted_fraction(calibration.curve.threshold(alpha))
    assert changes.trusted_area.before == same
    assert changes.same_pictures
    other = changed(few, pipeline=few.pipeline.model_copy(update={"fingerprint": "another"}))
    changes = ServingChanges.between(other, calibration)
    own = calibration.everything.mean_trusted_fraction(calibration.curve.threshold(alpha))
    assert changes.trusted_area.before == own
    assert not changes.same_pictures


def test_a_far_smaller_area(calibration):
    """At the same promise, less than half of the trusted area is worse; a little less is not."""
    strict = calibration.with_pairs(
        calibration.measured_pairs(), created_by="test", guarantee=HighProbability(delta=0.1)
    )
    for alpha in (0.1, 0.15, 0.2, 0.3, 0.5):
        one, other = (changed(it, default_alpha=alpha) for it in (strict, calibration))
        changes = ServingChanges.between(one, other)
        area = changes.trusted_area
        is_far = area.after < area.before / 2
        assert changes.is_worse == (is_far or changes.min_alpha.after > alpha)
        assert not ServingChanges.between(other, one).is_worse


async def test_the_loop_waits_for_no_calibration(serve, calibration, monkeypatch):
    """Its JSON and digests, and which classes it answers, are for threads."""
    threads = {}

    def noted(really):
        def note(*args, **options):
            threads.setdefault(really.__name__, set()).add(threading.current_thread())
            return really(*args, **options)

        return note

    for owner, name in (
        (file, "load"),
        (CalibrationPriority, "choose"),
        (ServingChanges, "between"),
    ):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name)))
    async with serve() as served:
        other = changed(calibration, default_alpha=0.2)
        imported = await served.client.post(
            f"{BASE}/import",
            content=file.dump(other),
            params={"activate": True},
            headers={**AS_ADMIN, "Content-Type": file.MEDIA_TYPE},
        )
        assert imported.status_code == 201
        assert (await served.post()).json()["calibration"] == other.id
    assert threads.keys() == {"load", "choose", "between"}
    assert threading.current_thread() not in set.union(*threads.values())


def test_deleting_what_a_job_extends(start):
    upscaler = FakeUpscaler()
    admin = Admin(start(upscaler))
    parent = admin.create(truth_files(1))["id"]
    upscaler.seconds = 30
    job = admin.post_files(truth_files(1, first=9), f"/{parent}/pairs").json()["id"]
    assert job in check_problem(admin.send("DELETE", f"/{parent}"), "conflict")["detail"]
    admin.client.delete(f"/v1/jobs/{job}")
    assert ended(admin.client, f"/v1/jobs/{job}")["state"] == "cancelled"
    assert admin.send("DELETE", f"/{parent}").status_code == 204
