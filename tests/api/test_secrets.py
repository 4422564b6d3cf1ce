"""Keys go nowhere: whatever fails, no log, trace, answer, job or file holds one."""

from __future__ import annotations

import itertools

import pytest

from tests.api.admin import Admin, truth_files
from tests.api.gateway import ADMIN_KEY, check_problem, post
from tests.fakes import FakeUpscaler
from tests.logs import logging_as
from tests.spans import recorded

CLIENT_KEY = "key-of-the-client"
UNKNOWN_KEY = "key-of-nobody"
KEYS = (CLIENT_KEY, UNKNOWN_KEY, ADMIN_KEY)


class Recursive(FakeUpscaler):
    """Fails as deep as Python goes."""

    async def generate(self, source, seeds, turn=None):
        return await self.generate(source, seeds)


class Faulty(FakeUpscaler):
    """Fails at once, with an error that nobody foresaw."""

    async def generate(self, source, seeds, turn=None):
        raise RuntimeError("a fault")


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_sink_holds_a_key(start, calibration, capfd, tmp_path, style):
    """Requests, jobs and admin actions fail unexpectedly; both ways to send a key are tried."""
    with logging_as(style), recorded() as spans:
        kinds = (Recursive("recursive"), Faulty("faulty"))
        calibrations = tuple(calibration.for_upscaler(kind.name) for kind in kinds)
        client = start(*kinds, calibrations=calibrations, client_keys=[CLIENT_KEY])
        ways = ({"Authorization": f"Bearer {CLIENT_KEY}"}, {"X-API-Key": CLIENT_KEY})
        said = []
        for kind, headers in itertools.product(kinds, ways):
            answer = post(client, upscaler=kind.name, headers=headers)
            check_problem(answer, "internal-error")
            later = {**headers, "Prefer": "respond-async"}
            job = post(client, upscaler=kind.name, headers=later)
            events = client.get(f"{job.headers['location']}/events", headers=headers).text
            assert '"failed"' in events
            said += [answer.text, job.text, events]
        said.append(post(client, headers={"X-API-Key": UNKNOWN_KEY}).text)
        admin = Admin(client)
        job = admin.post_files(truth_files(1))
        said += [job.text, admin.send("GET").text]
        said.append(client.get(f"{job.headers['location']}/events", headers=ways[0]).text)
        audit = client.get("/v1/admin/audit", headers={"X-API-Key": ADMIN_KEY})
        assert "upload" in audit.text or "create" in audit.text
        said.append(audit.text)
    log = capfd.readouterr().err
    assert "unexpected_error" in log
    stored = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    for key in KEYS:
        assert key not in log
        assert key not in spans.said()
        assert not [text for text in said if key in text]
        assert not [data for data in stored if key.encode() in data]
