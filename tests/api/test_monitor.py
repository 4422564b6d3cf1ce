"""Monitoring, canaries, and truths about results, over HTTP."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from harness.factories import changed, encoded, photo, upload
from harness.fakes import FakeUpscaler
from harness.gateway import AS_ADMIN, check_problem, ended, gateway, pixels, post, running
from tests.monitoring.scenes import REMOTE, calibrate
from trustscale_server.bootstrap import assembly
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.canary_store import CanaryStore
from trustscale_server.calibration.insight import COMMON_ALPHAS
from trustscale_server.conformal import fidelity
from trustscale_server.stores.opened import open_stores

PATH = "/v1/admin/monitor"


def monitor(client, **query):
    response = client.get(PATH, headers=AS_ADMIN, params=query)
    assert response.status_code == 200, response.text
    return response.json()["upscalers"][0]


@pytest.fixture
def client(start):
    return start()


def inputs(count):
    return [encoded(upload(k)) for k in range(1000, 1000 + count)]


def test_requests_are_counted(client):
    """Answered requests are in the next report, with the numbers that their answers gave."""
    images = inputs(3)
    answers = [post(client, image).json() for image in images[:2]]
    job = post(client, images[2], headers={"Prefer": "respond-async"}).headers["location"]
    answers.append(client.get(ended(client, job)["result"]).json())
    post(client, images[0])
    assert post(client, b"no image").status_code == 415
    report = monitor(client)
    assert report["requests"] == {"seen": 4, "counted": 3}
    mean = np.mean([answer["trusted_fraction"] for answer in answers])
    assert report["inputs"]["trusted_fraction"] == pytest.approx(mean)
    assert report["feedback"] is None


EVIDENCE = 'trustscale_canary_evidence{upscaler="fake"}'


class TestCanaries:
    @asynccontextmanager
    async def gateway(self, folder, upscaler, policy, **settings):
        """A gateway of a calibrated remote upscaler, its canaries among the blobs."""
        stores = open_stores("sqlite:///", folder, result_ttl_s=60, max_result_bytes=10**9)
        if not await stores.calibrations.active():
            canaries = CanaryStore(stores.blobs, stores.monitor)
            calibration = await calibrate(upscaler, canaries, count=8)
            await Calibrations(stores.calibrations).add(calibration, activate=True)
        await stores.close()
        watched = [REMOTE | ({"canary": policy} if policy else {})]
        async with running(gateway(folder, upscaler, upscalers=watched, **settings)) as served:
            yield served

    async def component(self, served, is_reached):
        async with asyncio.timeout(60):
            while True:
                ready = (await served.client.get("/readyz")).json()
                component = ready["components"]["upscaler:fake"]
                if is_reached(component["canary"]):
                    return component
                await asyncio.sleep(0.02)

    async def test_policies(self, tmp_path, monkeypatch):
        """`refuse`: 409 with what differs and what to do, not ready; a fresh gateway knows it too.

        By default every answer carries a warning, and the gateway stays ready and shows the alarm.
        """
        upscaler = FakeUpscaler()
        monkeypatch.setattr(assembly, "CANARY_INTERVAL_S", 0.1)
        async with self.gateway(tmp_path, upscaler, "refuse") as served:
            assert (await served.post()).status_code == 200
            component = await self.component(served, lambda canary: canary["rounds"] >= 2)
            assert (component["ready"], component["canary"]["evidence"]) == (True, 1.0)
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
        async with self.gateway(tmp_path, upscaler, None) as served:
            component = await self.component(served, lambda canary: canary["alarm"])
            assert (component["ready"], component["canary"]["evidence"]) == (True, "inf")
            warnings = (await served.post(seed=1)).json()["warnings"]
            assert any("seems to have changed" in warning for warning in warnings)
        async with self.gateway(tmp_path, upscaler, "off") as served:
            warnings = (await served.post()).json()["warnings"]
            assert not any("canar" in warning for warning in warnings)


TRUTH = photo(2000, 48, 48)
BLACK = np.zeros((48, 48, 3), np.uint8)


def tell(client, result, image=TRUTH, **files):
    if image is not None:
        files["image"] = image if isinstance(image, bytes) else encoded(image)
    return client.post(
        f"/v1/results/{result}/truth", files={k: (k, v, "image/png") for k, v in files.items()}
    )


def served(client, seed=1, side=24, **fields):
    image = encoded(upload(2000 + seed, side, side))
    response = post(client, image, **{"alpha": 0.12, "seed": seed, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def part(client, result, name):
    return pixels(client.get(f"/v1/results/{result}/{name}").content)


class TestScore:
    def test_it_is_the_worst_error_in_the_served_mask(self, client, calibration):
        """The loss is the calibration's D against image.png, at its worst inside mask.png."""
        answer = served(client)
        response = tell(client, answer["id"])
        assert response.status_code == 201, response.text
        told = response.json()
        error = fidelity.error(
            TRUTH, part(client, answer["id"], "image.png"), calibration.pipeline.fidelity
        )
        mask = part(client, answer["id"], "mask.png").astype(bool)
        assert 0.05 < mask.mean() < 1
        assert told["loss"] == told["loss_anywhere"] == pytest.approx(float(error[mask].max()))
        assert told["within"] == (told["loss"] <= 0.12)
        assert (told["alpha"], told["bound"], told["metric"]) == (0.12, 1.9576, "neighborhood")
        assert told["calibration"] == calibration.id
        assert (told["counted"], told["n_labels"]) == (True, 1)
        assert "neither proves nor refutes" in told["statement"]
        # The losses of other α are those of the masks that the service gives for them.
        assert [one["alpha"] for one in told["losses"]] == list(COMMON_ALPHAS)
        for one in told["losses"]:
            mask = part(client, answer["id"], f"mask.png?alpha={one['alpha']}").astype(bool)
            assert one["loss"] == pytest.approx(float(error[mask].max(initial=0)))

    def test_it_is_the_mean_over_the_spots(self, client, calibration):
        """The promise is about a random spot of the output, so the loss is their mean."""
        answer = served(client, side=40)
        truth = photo(2000, 80, 80)
        told = tell(client, answer["id"], truth).json()
        picture = part(client, answer["id"], "image.png")
        error = fidelity.error(truth, picture, calibration.pipeline.fidelity)
        mask = part(client, answer["id"], "mask.png").astype(bool)
        starts = [(top, left) for top in (0, 32) for left in (0, 32)]
        spots = [np.s_[top : top + 48, left : left + 48] for top, left in starts]
        worst = [float(error[one].max(where=mask[one], initial=0)) for one in spots]
        assert told["loss"] == pytest.approx(np.mean(worst))
        assert told["loss_anywhere"] == max(worst) > told["loss"]
        assert told["counted"]

    def test_where_nothing_was_promised_none_is_counted(self, client):
        """Of a mask that is always empty."""
        answer = post(client, encoded(upload(2001)), alpha=0.01, seed=1).json()
        assert not answer["guarantee"]["promised"]
        told = tell(client, answer["id"]).json()
        assert (told["counted"], told["n_labels"], told["mean_loss"]) == (False, 0, None)
        assert "It is not counted: nothing was promised" in told["statement"]


class TestCounting:
    def test_an_image_counts_once(self, client):
        """Other results of it are told so."""
        for seed in range(3):
            answer = post(client, encoded(upload(2001)), alpha=0.12, seed=seed).json()
            told = tell(client, answer["id"], BLACK).json()
            assert (told["counted"], told["n_labels"]) == (seed == 0, 1)
        assert "counted already, with another result" in told["statement"]
        assert not told["alarm"]
        other = served(client, seed=9)
        assert tell(client, other["id"]).json()["n_labels"] == monitor(client)["feedback"]["n"] == 2

    def test_the_first_truth_stays(self, client, calibration):
        """The same again changes nothing; another one is refused, and changes nothing either."""
        answer = served(client)
        first = tell(client, answer["id"])
        # What counts are the pixels: a WebP file of the same image is no other truth.
        for same in (TRUTH, encoded(TRUTH, "WEBP", lossless=True)):
            again = tell(client, answer["id"], same)
            assert (again.status_code, again.json()) == (200, first.json())
        check_problem(tell(client, answer["id"], BLACK), "conflict")
        report = monitor(client)
        assert report["feedback"]["n"] == 1
        assert report["feedback"]["mean_loss"] == pytest.approx(first.json()["loss"])
        # Feedback is no pair.
        assert served(client, seed=2)["calibration"] == calibration.id


def test_alarms(client):
    """Of masks that are wrong; inputs unlike the calibration images are called that, no worse."""
    for seed in range(1, 15):
        told = tell(client, served(client, seed=seed)["id"], BLACK + np.uint8(seed)).json()
    assert told["alarm"]
    assert told["e_value"] >= told["e_value_alarm_at"] == pytest.approx(20)
    for k in range(40):  # a hardly visible pattern: there is nothing to be undecided about
        rgb = np.random.default_rng(k).integers(120, 122, (24, 24, 3)).astype(np.uint8)
        assert post(client, encoded(rgb)).status_code == 200
    report = monitor(client)
    alarms = {one["kind"]: one for one in report["alarms"]}
    assert {kind: one["severity"] for kind, one in alarms.items()} == {
        "feedback": "page",
        "inputs": "ticket",
    }
    assert alarms["inputs"]["message"].startswith("The inputs differ from the calibration images")
    assert alarms["inputs"]["since"] is not None
    assert (report["feedback"]["n"], report["feedback"]["within"]) == (14, 0)
    text = client.get("/metrics").text
    for kind in alarms:
        assert f'trustscale_monitor_alarm{{kind="{kind}",upscaler="fake"}} 1.0' in text
    assert 'trustscale_feedback_labels{upscaler="fake"} 14.0' in text
    assert 'trustscale_monitor_requests{upscaler="fake"} 54.0' in text


def test_what_cannot_be_a_truth(client):
    result = served(client)["id"]
    check_problem(tell(client, "res-none"), "not-found")
    check_problem(tell(client, result, photo(1, 48, 40)), "bad-image")
    check_problem(tell(client, result, photo(1, 64, 48)), "image-too-large")
    check_problem(tell(client, result, b"GIF89a"), "unsupported-media")
    check_problem(tell(client, result, None, label=encoded(TRUTH)), "bad-request")
    check_problem(tell(client, result, None, other=encoded(TRUTH)), "bad-request")
    assert tell(client, result, TRUTH, label=encoded(TRUTH)).status_code in (400, 422)
    assert monitor(client)["feedback"] is None


class TestLabels:
    @pytest.fixture
    def semantic(self, calibration):
        """A calibration whose labels people have drawn; the shape of its curve does not matter."""
        settings = fidelity.FidelitySettings(metric="semantic")
        pipeline = calibration.pipeline.model_copy(update={"fidelity": settings})
        return changed(calibration, pipeline=pipeline.model_dump(mode="json"))

    def test_a_label_is_the_truth(self, start, semantic):
        """Where people judge, the loss is 1 if they marked anything in the mask, else 0."""
        client = start(calibrations=(semantic,))
        marked = np.zeros((48, 48), np.uint8)
        answer = served(client, alpha=0.5)
        mask = part(client, answer["id"], "mask.png").astype(bool)
        marked[~mask] = 255
        told = tell(client, answer["id"], None, label=encoded(marked)).json()
        assert (told["metric"], told["loss"], told["bound"]) == ("semantic", 0, 1)
        other = served(client, seed=2, alpha=0.5)
        inside = part(client, other["id"], "mask.png").astype(np.uint8) * 200
        assert tell(client, other["id"], None, label=encoded(inside)).json()["loss"] == 1
        problem = check_problem(tell(client, other["id"], TRUTH), "bad-request")
        assert "label" in problem["detail"]
