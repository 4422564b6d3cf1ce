"""GET /v1/admin/monitor: what the gateway has seen, for people and for Prometheus."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.calibration.record import Calibration
from app.conformal.drift import EPOCH
from tests.api.admin import Admin
from tests.api.conftest import Start
from tests.api.gateway import AS_ADMIN, check_problem, ended, post
from tests.factories import changed, encoded, photo
from tests.fakes import FakeUpscaler

PATH = "/v1/admin/monitor"


def monitor(client: TestClient, **query: object) -> dict:
    """The report on the first upscaler."""
    response = client.get(PATH, headers=AS_ADMIN, params=query)
    assert response.status_code == 200, response.text
    return response.json()["upscalers"][0]


@pytest.fixture
def client(start: Start) -> TestClient:
    """A client of a gateway that has seen nothing yet."""
    return start()


def replaced(client: TestClient, calibration: Calibration) -> str:
    """Another calibration, active: the same without its first pair."""
    admin = Admin(client)
    other = admin.send("DELETE", f"/{calibration.id}/pairs/000").json()["id"]
    admin.send("POST", f"/{other}/activate")
    return other


def inputs(count: int, *, first: int = 1000) -> list[bytes]:
    """Inputs whose outputs are as large as the calibration images."""
    return [encoded(photo(k, 24, 24)) for k in range(first, first + count)]


def flat(count: int) -> list[bytes]:
    """Inputs with a hardly visible pattern: there is nothing to be undecided about."""
    return [
        encoded(np.random.default_rng(k).integers(120, 122, (24, 24, 3)).astype(np.uint8))
        for k in range(count)
    ]


class TestReport:
    def test_warnings_are_counted_with_few_scenes_too(self, client):
        """30 pairs cannot say less than 2/31 of an image, which is warned of, and counted."""
        assert post(client, flat(1)[0]).json()["unusual"]
        told = monitor(client)["typicality"]
        assert (told["unusual"], told["expected_unusual"]) == (1, pytest.approx(2.5 / 31))

    def test_before_the_first_request(self, client, calibration):
        """Nothing is claimed before anything was seen."""
        report = monitor(client, upscaler="fake")
        check_problem(client.get(f"{PATH}?upscaler=x", headers=AS_ADMIN), "not-found")
        assert (report["upscaler"], report["calibration"]["id"]) == ("fake", calibration.id)
        assert report["calibration"]["n"] == 30
        assert (report["since"], report["typicality"], report["trusted_fraction"]) == (None,) * 3
        assert set(report["requests"].values()) == {0}
        drift = report["drift"]
        assert (drift["martingale"], drift["shiryaev_roberts"]) == (1, 0)
        assert drift["epoch_length"] == EPOCH
        assert (report["feedback"], report["health"], report["canary"]) == (None, None, None)
        assert report["alarms"] == report["history"] == report["feedback_history"] == []

    def test_of_every_size(self, start, calibration):
        """What a part of some sizes has answered is in the report, and so is the truth about it."""
        pairs = [
            {**pair, "width": 96, "height": 96} if k % 2 else pair
            for k, pair in enumerate(calibration.document["pairs"])
        ]
        client = start(calibrations=[changed(calibration, pairs=pairs)])
        for side in (24, 48):
            answer = post(client, encoded(photo(side, side, side))).json()
            truth = {"image": ("y.png", encoded(photo(1, 2 * side, 2 * side)), "image/png")}
            assert client.post(f"{answer['links']['self']}/truth", files=truth).is_success
        report = monitor(client)
        assert (report["requests"]["counted"], len(report["feedback_history"])) == (2, 2)

    def test_requests_are_counted(self, client):
        """Answered requests are in the next report, with the numbers that their answers gave.

        A client that sends one image again is seen, and counted once; so is a job.
        """
        images = inputs(3)
        answers = [post(client, image).json() for image in images[:2]]
        job = post(client, images[2], headers={"Prefer": "respond-async"}).headers["location"]
        answers.append(client.get(ended(client, job)["result"]).json())
        post(client, images[0])
        assert post(client, b"no image").status_code == 415
        report = monitor(client)
        assert report["requests"] == {"seen": 4, "counted": 3, "duplicates": 1, "subsampled": 0}
        trusted = [answer["trusted_fraction"] for answer in answers]
        typical = [answer["typicality"] for answer in answers]
        assert report["trusted_fraction"]["mean"] == pytest.approx(np.mean(trusted))
        assert report["typicality"]["mean"] == pytest.approx(np.mean(typical))
        bins = report["typicality"]["histogram"]
        for part in bins:
            inside = [t for t in typical if part["from"] < t <= part["to"]]
            assert part["count"] == len(inside)
        assert [point["requests"] for point in report["history"]] == [1, 2, 3]
        assert [p["typicality"] for p in report["history"]] == pytest.approx(typical)
        assert report["typicality"]["unusual"] == np.mean([a["unusual"] for a in answers])
        last = report["history"][-1]
        assert last["log10_martingale"] == pytest.approx(report["drift"]["log10_martingale"])
        assert report["since"] <= report["updated_at"]
        assert report["drift"]["shift_sd"] is not None
        assert [p["requests"] for p in monitor(client, points=2)["history"]] == [2, 3]
        assert monitor(client, points=0)["history"] == []
        too_many = client.get(PATH, params={"points": 1001}, headers=AS_ADMIN)
        check_problem(too_many, "bad-request")

    def test_a_busy_client_is_subsampled(self, start: Start):
        """With an interval, the burst of one client counts as one request; others count too.

        What one gateway has seen is in the report of another.
        """
        client = start(client_keys=["one", "two"], monitor_client_interval_s=3600)
        for key, image in zip(["one", "one", "two", "one"], inputs(4), strict=True):
            post(client, image, headers={"X-API-Key": key})
        monitor(client)
        requests = monitor(start(run_jobs=False))["requests"]
        assert (requests["counted"], requests["subsampled"]) == (2, 2)

    def test_other_inputs_raise_the_alarm(self, client):
        """Inputs unlike the calibration images are called that, and nothing worse."""
        for image in flat(40):
            assert post(client, image).status_code == 200
        report = monitor(client)
        (alarm,) = report["alarms"]
        assert (alarm["kind"], alarm["severity"]) == ("inputs", "ticket")
        assert alarm["message"].startswith("The inputs differ from the calibration images")
        assert alarm["since"] is not None
        assert report["drift"]["martingale"] >= report["drift"]["martingale_alarm_at"]
        assert report["drift"]["shift_sd"] < -1
        text = client.get("/metrics").text
        assert 'trustscale_monitor_alarm{group="",kind="inputs",upscaler="fake"} 1.0' in text
        assert 'trustscale_monitor_requests{group="",upscaler="fake"} 40.0' in text
        assert 'kind="feedback",upscaler="fake"} 0.0' in text
        assert "trustscale_monitor_lost_total 0.0" in text

    def test_a_new_calibration_starts_anew(self, client, calibration):
        """Another active calibration has seen nothing; going back, the old knowledge is there."""
        post(client)
        other = replaced(client, calibration)
        for name, counted in ((other, 0), (calibration.id, 1)):
            Admin(client).send("POST", f"/{name}/activate")
            report = monitor(client)
            assert report["calibration"]["id"] == name
            assert report["requests"]["counted"] == counted

    def test_groups_are_watched_apart(self, start: Start, calibration):
        """Images of a named group are compared with the calibration images of that group.

        What is alarming about the upscaler is told once.
        """
        pairs = [
            {**pair, "group": ("day", "night")[place % 2]}
            for place, pair in enumerate(calibration.document["pairs"])
        ]
        grouped = changed(calibration, pairs=pairs)
        upscaler = FakeUpscaler()
        client = start(upscaler, calibrations=(grouped,))
        images = inputs(3)
        answer = post(client, images[0], group="night").json()
        post(client, images[1])
        post(client, images[2])
        truth = {"image": ("y.png", encoded(photo(1, 48, 48)), "image/png")}
        told = client.post(f"/v1/results/{answer['id']}/truth", files=truth)
        assert told.json()["calibration"] == grouped.id
        reports = client.get(PATH, headers=AS_ADMIN).json()["upscalers"]
        assert [one["group"] for one in reports] == [None, "night"]
        assert [one["calibration"]["id"] for one in reports] == [grouped.id] * 2
        assert [one["calibration"]["n"] for one in reports] == [30, 15]
        assert [one["requests"]["counted"] for one in reports] == [2, 1]
        assert [one["feedback"] and one["feedback"]["n"] for one in reports] == [None, 1]
        upscaler.fingerprint = "fake:2"
        reports = client.get(PATH, headers=AS_ADMIN).json()["upscalers"]
        assert [[alarm["kind"] for alarm in one["alarms"]] for one in reports] == [["mismatch"], []]
        upscaler.fingerprint = "fake:1"
        text = client.get("/metrics").text
        assert 'trustscale_monitor_requests{group="night",upscaler="fake"} 1.0' in text
        # Another calibration takes all of it away.
        replaced(client, grouped)
        assert 'group="night"' not in client.get("/metrics").text
        load = client.app_state["trustscale"].stores.monitor.load
        parts = (grouped.id, grouped.of_group("night").id)
        assert all(client.portal.call(load, part) is not None for part in parts)
        Admin(client).send("DELETE", f"/{grouped.id}")
        assert all(client.portal.call(load, part) is None for part in parts)

    def test_what_serves_no_masks(self, start: Start):
        """An upscaler without a calibration, or that is not the calibrated one, is an alarm."""
        client = start(FakeUpscaler(fingerprint="fake:2"), FakeUpscaler("bare"))
        reports = client.get(PATH, headers=AS_ADMIN).json()["upscalers"]
        (mismatch,), (bare,) = (report["alarms"] for report in reports)
        assert (mismatch["kind"], mismatch["severity"]) == ("mismatch", "page")
        assert "fingerprint" in mismatch["message"]
        assert (bare["kind"], reports[1]["calibration"]) == ("no-calibration", None)
