"""Canaries, and truths about results, over HTTP."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from harness.factories import changed, encoded, photo, upload
from harness.fakes import FakeUpscaler
from harness.gateway import check_problem, gateway, pixels, post, running
from tests.monitoring.scenes import REMOTE, calibrate
from tests.numbers import parsed_metrics
from trustscale_server.bootstrap import assembly
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.canary_store import CanaryStore
from trustscale_server.calibration.insight import COMMON_ALPHAS
from trustscale_server.conformal import fidelity
from trustscale_server.stores.opened import open_stores


@pytest.fixture
def client(start):
    return start()


EVIDENCE = 'trustscale_canary_evidence{upscaler="fake"}'


class TestCanaries:
    @asynccontextmanager
    async def gateway(self, folder, upscaler, policy, **settings):
        """A gateway of a calibrated remote upscaler, its canaries among the blobs."""
        stores = open_stores("sqlite:///", folder, result_ttl_s=60, max_result_bytes=10**9)
        if not await stores.calibrations.active():
            canaries = CanaryStore(stores.blobs, stores.canary_states)
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
        assert response.status_code == 200, response.text
        told = response.json()
        error = fidelity.error(
            TRUTH, part(client, answer["id"], "image.png"), calibration.pipeline.fidelity
        )
        mask = part(client, answer["id"], "mask.png").astype(bool)
        assert 0.05 < mask.mean() < 1
        assert told["loss"] == told["loss_anywhere"] == pytest.approx(float(error[mask].max()))
        assert told["within"] == (told["loss"] <= 0.12)
        assert (told["alpha"], told["calibration"]) == (0.12, calibration.id)
        assert told["counted"]
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
        assert not told["counted"]


def counted(client):
    """The losses and the α of the truths that /metrics knows: how many, and their sums."""
    found = parsed_metrics(client.get("/metrics").text)
    names = ("truth_loss_count", "truth_loss_sum", "truth_alpha_total")
    return [sum(v for key, v in found.items() if key[0] == f"trustscale_{name}") for name in names]


def test_what_is_counted(client, calibration):
    """The first truth about each result, whatever is sent after it; it is no pair."""
    assert counted(client) == [0, 0, 0]
    first, other = (served(client, seed=seed) for seed in (1, 2))
    told = tell(client, first["id"]).json()
    assert counted(client) == pytest.approx([1, told["loss"], 0.12])
    again = tell(client, first["id"]).json()
    assert (again["counted"], again["loss"]) == (False, told["loss"])
    worse = tell(client, first["id"], BLACK).json()
    assert (worse["counted"], worse["within"]) == (False, False)
    assert counted(client) == pytest.approx([1, told["loss"], 0.12])
    more = tell(client, other["id"], BLACK).json()
    assert more["counted"]
    assert counted(client) == pytest.approx([2, told["loss"] + more["loss"], 0.24])
    assert served(client, seed=3)["calibration"] == calibration.id


def test_what_cannot_be_a_truth(client):
    result = served(client)["id"]
    check_problem(tell(client, "res-none"), "not-found")
    check_problem(tell(client, result, photo(1, 48, 40)), "bad-image")
    check_problem(tell(client, result, photo(1, 64, 48)), "image-too-large")
    check_problem(tell(client, result, b"GIF89a"), "unsupported-media")
    check_problem(tell(client, result, None, label=encoded(TRUTH)), "bad-request")
    check_problem(tell(client, result, None, other=encoded(TRUTH)), "bad-request")
    assert tell(client, result, TRUTH, label=encoded(TRUTH)).status_code in (400, 422)
    assert counted(client) == [0, 0, 0]


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
        assert (told["loss"], told["counted"]) == (0, True)
        other = served(client, seed=2, alpha=0.5)
        inside = part(client, other["id"], "mask.png").astype(np.uint8) * 200
        assert tell(client, other["id"], None, label=encoded(inside)).json()["loss"] == 1
        problem = check_problem(tell(client, other["id"], TRUTH), "bad-request")
        assert "label" in problem["detail"]
