"""Keys: who may do what, who did what, and that no key is revealed."""

import errno
import json
import os
import stat
from functools import partial
from pathlib import Path

import pytest

from harness.admin import BASE, Admin, truth_files
from harness.fakes import FakeUpscaler
from harness.gateway import ADMIN_KEY, check_problem, post
from tests.api.test_admin_calibrations import exported
from tests.logs import logging_as
from tests.spans import recorded
from trustscale_server.http.auth import Keyring, stored_admin_key
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.jobs.tasks import TaskRetryPolicy
from trustscale_server.platform.errors import ConfigError

BEARER = {"Authorization": "Bearer client-key"}
HEADER = {"X-API-Key": "client-key"}
ACCEPTED = [
    BEARER,
    HEADER,
    {"Authorization": "bearer client-key"},
    {"X-API-Key": "second-key"},
    {"X-API-Key": ADMIN_KEY},
    {"Authorization": f"Bearer {ADMIN_KEY}"},
]
REFUSED = [
    {},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Basic client-key"},
    {"Authorization": "client-key"},
    {"X-API-Key": ""},
    {"X-API-Key": " "},
    {"X-API-Key": "client-key2"},
    {"X-API-Key": "ключ".encode()},
]


@pytest.fixture
def guarded(start):
    return start(client_keys=["client-key", "second-key"])


class TestClientKeys:
    def test_who_may_ask(self, guarded):
        """Either header carries the key, and an admin may ask too; to others it is said how."""
        for headers in ACCEPTED:
            assert post(guarded, headers=headers).status_code == 200
        for headers in REFUSED:
            response = post(guarded, headers=headers)
            check_problem(response, "unauthorized")
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert "client-key" not in response.text

    def test_every_public_path(self, guarded):
        answer = post(guarded, headers=HEADER).json()
        job = post(guarded, headers={**HEADER, "Prefer": "respond-async"}).headers["location"]
        for path in (*answer["links"].values(), job, f"{job}/events", "/v1/upscalers"):
            check_problem(guarded.get(path), "unauthorized")
            assert guarded.get(path, headers=BEARER).status_code == 200
        check_problem(guarded.delete(job), "unauthorized")
        check_problem(guarded.post(f"{answer['links']['self']}/truth"), "unauthorized")
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert guarded.get(path).status_code == 200
        # Whether a result exists is not told to strangers, nor is the upload judged.
        check_problem(guarded.get("/v1/results/res-unknown"), "unauthorized")
        check_problem(post(guarded, b"text", aplha=1), "unauthorized")


def test_a_keyring():
    """A key is known by its name, before the first colon, or by 8 digits of its digest."""
    ring = Keyring(["anna:old", "anna:new", " plain ", "not a name:x"])
    assert [ring.key_id(key) for key in ("old", "new")] == ["anna", "anna"]
    assert ring.key_id("plain") not in {None, "plain"}
    assert ring.key_id("plain") == Keyring(["plain"]).key_id("plain") != ring.key_id("not a name:x")
    assert {ring.key_id(key) for key in ("anna:old", "anna", "", None)} == {None}
    assert "plain" not in vars(ring).values()
    # An empty one, set by mistake, lets nobody in.
    assert (Keyring([""]).key_id(""), Keyring([""]).is_empty) == (None, False)


class TestStoredAdminKey:
    def test_made_once_for_the_owner_only(self, tmp_path):
        key, path = stored_admin_key(tmp_path / "data")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stored_admin_key(tmp_path / "data") == (key, path)
        assert len(key) >= 40
        assert stored_admin_key(tmp_path / "other")[0] != key
        assert [p.name for p in (tmp_path / "data").iterdir()] == ["admin.key"]

    def test_a_full_disk_leaves_no_empty_key(self, tmp_path, monkeypatch):
        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(ConfigError, match="No space left"):
                stored_admin_key(tmp_path)
        assert not list(tmp_path.iterdir())
        assert len(stored_admin_key(tmp_path)[0]) == 43

    @pytest.mark.parametrize("stored", [b"", b"\n", b"short\n", b"\xff" * 50])
    def test_no_key_is_told(self, tmp_path, stored):
        """A file that an older release left empty, or that is damaged, never becomes a key."""
        (tmp_path / "admin.key").write_bytes(stored)
        with pytest.raises(ConfigError, match="empty or damaged"):
            stored_admin_key(tmp_path)

    def test_two_gateways_at_once(self, tmp_path, monkeypatch):
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: path.name != "admin.key" and exists(path))
        assert stored_admin_key(tmp_path) == stored_admin_key(tmp_path)


def test_keys(start, client):
    """On every path: without a key 401, before anything is judged; for a client's key 403."""
    guarded = start(client_keys=["client-key"])
    # From the whole application, so that a router that is added later is tried too.
    routes = [
        (method.upper(), path.replace("{part}", "y").replace("{", "").replace("}", ""))
        for path, operations in client.get("/openapi.json").json()["paths"].items()
        for method in operations
        if path.startswith("/v1/admin")
    ]
    assert len(routes) >= 18
    assert ("PUT", f"{BASE}/calibration_id/pairs/name/label.png") in routes
    for method, path in routes:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": ""}):
            for door in (client, guarded):
                response = door.request(method, path, headers=headers)
                check_problem(response, "unauthorized")
                assert response.headers["www-authenticate"].startswith("Bearer")
        response = guarded.request(method, path, headers={"X-API-Key": "client-key"})
        check_problem(response, "forbidden")


def test_who_did_what(fresh, calibration, capsys):
    """What was done is logged with its actor; what was refused is not claimed."""
    with logging_as("json"):
        fresh.send("DELETE", f"/{calibration.id}")  # refused
        fresh.send("POST", "/cal-unknown/activate")
        made = fresh.create(truth_files(3))
        fresh.send("POST", f"/{made['id']}/activate", json={"force": True})
        fresh.send("POST", f"/{calibration.id}/activate", json={"force": True})
        smaller = fresh.send("DELETE", f"/{made['id']}/pairs/000").json()
        fresh.send("DELETE", f"/{smaller['id']}")
        fresh.send("POST", "/import", content=exported(fresh, made["id"]))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    entries = [line for line in lines if line["event"] == "admin_action"]
    done = [entry["action"].removeprefix("calibration.") for entry in entries]
    assert done == ["create", "activate", "activate", "remove_pair", "delete", "import"]
    assert {entry["actor"] for entry in entries} == {made["provenance"]["created_by"]}
    assert ADMIN_KEY not in json.dumps(entries)
    facts = {"calibration": calibration.id, "previous": made["id"], "only": False}
    assert facts.items() <= entries[2].items()


CLIENT_KEY = "key-of-the-client"
UNKNOWN_KEY = "key-of-nobody"
KEYS = (CLIENT_KEY, UNKNOWN_KEY, ADMIN_KEY)


class Recursive(FakeUpscaler):
    async def generate(self, source, seeds, permit=None):
        return await self.generate(source, seeds)


class Faulty(FakeUpscaler):
    async def generate(self, source, seeds, permit=None):
        raise RuntimeError("a fault")


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_sink_holds_a_key(start, calibration, capfd, tmp_path, style, monkeypatch):
    """Requests, jobs and admin actions fail unexpectedly; both ways to send a key are tried."""
    queue = partial(JobQueue, policy=TaskRetryPolicy(errors_s=()))
    monkeypatch.setattr("trustscale_server.bootstrap.assembly.JobQueue", queue)
    with logging_as(style), recorded() as spans:
        kinds = (Recursive("recursive"), Faulty("faulty"))
        calibrations = tuple(calibration.for_upscaler(kind.name) for kind in kinds)
        client = start(*kinds, calibrations=calibrations, client_keys=[CLIENT_KEY])
        ways = ({"Authorization": f"Bearer {CLIENT_KEY}"}, {"X-API-Key": CLIENT_KEY})
        said = []
        for kind, headers in zip(kinds, ways if style == "json" else ways[::-1], strict=True):
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
        listed = client.get("/v1/admin/jobs", headers={"X-API-Key": ADMIN_KEY})
        assert listed.status_code == 200
        said.append(listed.text)
    log = capfd.readouterr().err
    assert "unexpected_error" in log
    stored = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    for key in KEYS:
        assert key not in log
        assert key not in spans.said()
        assert not [text for text in said if key in text]
        assert not [data for data in stored if key.encode() in data]
