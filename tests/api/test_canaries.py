"""A provider changes the model: what clients, probes and operators see of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from app.calibration.active import Calibrations
from app.calibration.canaries import CanaryStore
from app.main import create_app
from app.settings import Settings
from app.stores.open import open_stores
from tests.api.gateway import PATIENT, check_problem, running
from tests.fakes import FakeUpscaler
from tests.watch.scenes import REMOTE, calibrate

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
        """The component, once its canaries have got so far."""
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

    async def test_derived(self, tmp_path):
        """Another promise about the same pairs is watched by the same canaries."""
        async with self.gateway(tmp_path, FakeUpscaler(), "warn") as served:
            (served_from,) = (await served.state.stores.calibrations.active()).values()
            asked = {"guarantee": {"kind": "high_probability"}}
            derived = f"/v1/admin/calibrations/{served_from.calibration}/derive"
            keys = {"Authorization": "Bearer k"}
            made = (await served.client.post(derived, json=asked, headers=keys)).json()
            canaries = CanaryStore(served.state.stores.blobs, served.state.stores.monitor)
            kept = [
                await canaries.load(calibration)
                for calibration in (served_from.calibration, made["id"])
            ]
            assert kept[0] == kept[1] != (0, None)

    async def test_warn(self, tmp_path):
        """Every answer carries the warning; the gateway stays ready and shows the alarm."""
        upscaler = FakeUpscaler()
        async with self.gateway(tmp_path, upscaler, "warn", canary_interval_s=0.1) as served:
            component = await self.component(served, lambda canary: canary["rounds"] >= 2)
            # Rounds of an unchanged model leave no trace but their number.
            assert (component["ready"], component["canary"]["evidence"]) == (True, 1.0)
            before = (await served.post(seed=1)).json()["warnings"]
            upscaler.strength = 0.6
            component = await self.component(served, lambda canary: canary["alarm"])
            assert component["canary"]["policy"] == "warn"
            assert component["canary"]["evidence"] == "inf"
            assert (await served.client.get("/readyz")).status_code == 200
            after = (await served.post(seed=1)).json()["warnings"]
            assert any("seems to have changed" in new for new in set(after) - set(before))
