"""The backup of a service on one machine, by the commands of docs/maintenance.md."""

import os
import subprocess
import textwrap
import threading

import httpx
import pytest

from harness.blocks import ROOT
from harness.factories import calibration_of
from harness.fakes import FakeUpscaler
from harness.gateway import AS_ADMIN, aside, form, gateway
from tests.live import serving


def commands():
    page = (ROOT / "docs" / "maintenance.md").read_text("utf-8")
    section = page.split("\n## Backup without Redis\n")[1].split("\n## ")[0]
    blocks = [part for part in section.split("\n\n") if part.startswith("    ")]
    return [textwrap.dedent(block) for block in blocks]


def shell(command, folder, data):
    subprocess.run(
        ["/bin/sh", "-euc", command],
        cwd=folder,
        env={**os.environ, "DATA": str(data)},
        check=True,
        timeout=120,
    )


@pytest.mark.slow
def test_saved_while_it_runs(tmp_path):
    """Requests go on meanwhile; another folder then answers as the first one did."""
    save, restore = commands()
    calibration = aside(calibration_of(FakeUpscaler()))
    there, again = tmp_path / "there", tmp_path / "again"
    with serving(gateway(there, calibrations=[calibration])) as address:
        url, ended = f"http://{address}", threading.Event()

        def busy():
            with httpx.Client(base_url=url) as client:
                while not ended.is_set():
                    client.post("/v1/upscale", **form()).raise_for_status()

        with httpx.Client(base_url=url, headers=AS_ADMIN) as client:
            first = client.post("/v1/upscale", **form(seed=1)).json()
            image = client.get(first["links"]["image"]).content
            thread = threading.Thread(target=busy)
            thread.start()
            try:
                shell(save, tmp_path, there)
            finally:
                ended.set()
                thread.join()
    shell(restore, tmp_path, again)
    with (
        serving(gateway(again)) as address,
        httpx.Client(base_url=f"http://{address}", headers=AS_ADMIN) as client,
    ):
        assert client.get(first["links"]["self"]).json() == first
        assert client.get(first["links"]["image"]).content == image
        (listed,) = client.get("/v1/admin/calibrations").json()
        assert (listed["id"], listed["active"]) == (calibration.id, True)
        assert client.post("/v1/upscale", **form(seed=2)).status_code == 200
