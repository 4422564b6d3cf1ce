"""Monitoring and canaries over HTTP."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from app.calibration.active import Calibrations
from app.calibration.canaries import CanaryStore
from app.main import create_app
from app.settings import Settings
from app.stores.open import open_stores
from tests.api.admin import Admin
from tests.api.gateway import AS_ADMIN, PATIENT, check_problem, ended, post, running
from tests.factories import changed, encoded, photo
from tests.fakes import FakeUpscaler
from tests.watch.scenes import REMOTE, calibrate

PATH = "/v1/admin/monitor"


def monitor(client, **query):
    response = client.get(PATH, headers=AS_ADMIN, params=query)
    assert response.status_code == 200, response.text
    return response.json()["upscalers"][0]


@pytest.fixture
def client(start):
    return start()


def replaced(client, calibration):
    """Another calibration, active: the same without its first pair."""
    admin = Admin(client)
    other = admin.send("DELETE", f"/{calibration.id}/pairs/000").json()["id"]
    admin.send("POST", f"/{other}/activate")
    return other


def inputs(count, *, first=1000):
    return [encoded(photo(k, 24, 24)) for k in range(first, first + count)]


def flat(count):
    """Inputs with a hardly visible pattern: there is nothing to be undecided about."""
    return [
        encoded(np.random.default_rng(k).integers(120, 122, (24, 24, 3)).astype(np.uint8))
        for k in range(count)
    ]


class TestReport:
    def test_requests_are_counted(self, client):
        """Answered requests are in the next report, with the numbers that their answers gave."""
        images = inputs(3)
        answers = [post(client, image).json() for image in images[:2]]
        job = post(client, images[2], headers={"Prefer": "respond-async"}).headers["location"]
        answers.append(client.get(ended(client, job)["result"]).json())
        post(client, images[0])
        assert post(client, b"no image").status_code == 415
        report = monitor(client)
        assert report["requests"] == {"seen": 4, "counted": 3, "duplicates": 1, "subsampled": 0}
        for name in ("trusted_fraction", "typicality"):
            mean = np.mean([answer[name] for answer in answers])
            assert report[name]["mean"] == pytest.approx(mean)
        typical = [answer["typicality"] for answer in answers]
        assert [p["typicality"] for p in report["history"]] == pytest.approx(typical)
        assert report["typicality"]["unusual"] == np.mean([a["unusual"] for a in answers])
        for most, points in ((2, [2, 3]), (0, [])):
            assert [p["requests"] for p in monitor(client, points=most)["history"]] == points
        too_many = client.get(PATH, params={"points": 1001}, headers=AS_ADMIN)
        check_problem(too_many, "bad-request")

    def test_other_inputs_raise_the_alarm(self, client):
        """Inputs unlike the calibration images are called that, and nothing worse."""
        for image in flat(40):
            assert post(client, image).status_code == 200
        report = monitor(client)
        (alarm,) = report["alarms"]
        assert (alarm["kind"], alarm["severity"]) == ("inputs", "ticket")
        assert alarm["message"].startswith("The inputs differ from the calibration images")
        assert alarm["since"] is not None
        text = client.get("/metrics").text
        assert 'trustscale_monitor_alarm{group="",kind="inputs",upscaler="fake"} 1.0' in text
        assert 'trustscale_monitor_requests{group="",upscaler="fake"} 40.0' in text

    def test_groups_are_watched_apart(self, start, calibration):
        """Images of a named group are compared with the calibration images of that group."""
        pairs = [
            {**pair, "group": ("day", "night")[place % 2]}
            for place, pair in enumerate(calibration.document["pairs"])
        ]
        grouped = changed(calibration, pairs=pairs)
        upscaler = FakeUpscaler()
        client = start(upscaler, calibrations=(grouped,))
        first, *others = inputs(3)
        answer = post(client, first, group="night").json()
        for image in others:
            post(client, image)
        truth = {"image": ("y.png", encoded(photo(1, 48, 48)), "image/png")}
        told = client.post(f"/v1/results/{answer['id']}/truth", files=truth)
        assert told.json()["calibration"] == grouped.id
        reports = client.get(PATH, headers=AS_ADMIN).json()["upscalers"]
        assert [one["group"] for one in reports] == [None, "night"]
        assert [one["calibration"]["id"] for one in reports] == [grouped.id] * 2
        assert [one["calibration"]["n"] for one in reports] == [30, 15]
        assert [one["requests"]["counted"] for one in reports] == [2, 1]
        assert [one["feedback"] and one["feedback"]["n"] for one in reports] == [None, 1]
        text = client.get("/metrics").text
        assert 'trustscale_monitor_requests{group="night",upscaler="fake"} 1.0' in text
        # Another calibration takes all of it away.
        replaced(client, grouped)
        assert 'group="night"' not in client.get("/metrics").text


EVIDENCE = 'trustscale_canary_evidence{upscaler="fake"}'


class TestCanaries:
    @asynccontextmanager
    async def gateway(self, folder, upscaler, policy, **settings):
        """A gateway of a calibrated remote upscaler, its canaries among the blobs."""
        effective = Settings(
            data_dir=folder, upscalers=[{**REMOTE, "canary": policy}], admin_keys=["k"], **settings
        )
        stores = open_stores("sqlite:///", folder, result_ttl_s=60, max_result_bytes=10**9)
        calibrations = Calibrations(stores.calibrations)
        if await calibrations.active_id("fake") is None:
            calibration = await calibrate(
                upscaler, CanaryStore(stores.blobs, stores.monitor), count=8
            )
            await calibrations.add(calibration, activate=True)
        await stores.close()
        app = create_app(effective, build=lambda *_: upscaler, timings=PATIENT)
        async with running(app) as served:
            yield served

    async def component(self, served, is_reached):
        async with asyncio.timeout(60):
            while True:
                ready = (await served.client.get("/readyz")).json()
                component = ready["components"]["upscaler:fake"]
                if is_reached(component["canary"]):
                    return component
                await asyncio.sleep(0.02)

    async def test_refuse(self, tmp_path):
        """409 with what differs and what to do, not ready, and a fresh gateway knows it too."""
        upscaler = FakeUpscaler()
        async with self.gateway(tmp_path, upscaler, "refuse", canary_interval_s=0.1) as served:
            assert (await served.post()).status_code == 200
            upscaler.strength = 0.6
            component = await self.component(served, lambda canary: canary["alarm"])
            assert component["ready"] is False
            assert component["detail"] == "calibration-mismatch"
            assert (await served.client.get("/readyz")).status_code == 503
            calls = len(upscaler.calls)
            problem = check_problem(await served.post(), "calibration-mismatch")
            assert [item["field"] for item in problem["differences"]] == ["canary"]
            assert "Calibrate it again" in problem["detail"]
            assert len(upscaler.calls) == calls
            metrics = (await served.client.get("/metrics")).text
            assert f"{EVIDENCE} +Inf" in metrics
        async with self.gateway(tmp_path, upscaler, "refuse") as served:
            assert (await served.post()).status_code == 409
        async with self.gateway(tmp_path, upscaler, "off") as served:
            warnings = (await served.post()).json()["warnings"]
            assert not any("canar" in warning for warning in warnings)

    async def test_warn(self, tmp_path):
        """Every answer carries the warning; the gateway stays ready and shows the alarm."""
        upscaler = FakeUpscaler()
        async with self.gateway(tmp_path, upscaler, "warn", canary_interval_s=0.1) as served:
            component = await self.component(served, lambda canary: canary["rounds"] >= 2)
            assert (component["ready"], component["canary"]["evidence"]) == (True, 1.0)
            upscaler.strength = 0.6
            component = await self.component(served, lambda canary: canary["alarm"])
            assert (component["ready"], component["canary"]["evidence"]) == (True, "inf")
            warnings = (await served.post(seed=1)).json()["warnings"]
            assert any("seems to have changed" in warning for warning in warnings)
