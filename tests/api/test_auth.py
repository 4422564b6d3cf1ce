"""Keys: who may ask, and how it is said."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from app.api.auth import Keyring, stored_admin_key
from app.errors import ConfigError
from tests.api.gateway import ADMIN_KEY, check_problem, post

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
    """A gateway whose public API needs a key."""
    return start(client_keys=["client-key", "second-key"])


class TestClientKeys:
    def test_the_api_is_open_without_keys(self, client):
        """Nothing is needed unless keys are configured; a superfluous key does no harm."""
        assert post(client).status_code == 200
        assert post(client, headers=BEARER).status_code == 200

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
        """Results, jobs and upscalers need the key too; health and metrics do not."""
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


def test_a_keyring_tells_nothing():
    """A key is known by 8 digits of its digest; an empty one, set by mistake, lets nobody in."""
    ring = Keyring(["a", "b"])
    assert ring.key_id("a") == Keyring(["a"]).key_id("a") != ring.key_id("b")
    assert ring.key_id("c") is ring.key_id(None) is None
    assert "a" not in vars(ring).values()
    assert Keyring([""]).key_id("") is None
    assert not Keyring([""]).empty


class TestStoredAdminKey:
    def test_made_once_for_the_owner_only(self, tmp_path):
        """The first start makes a key of mode 0600; later starts read the same."""
        key, path = stored_admin_key(tmp_path / "data")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stored_admin_key(tmp_path / "data") == (key, path)
        assert len(key) >= 40
        assert stored_admin_key(tmp_path / "other")[0] != key
        assert [p.name for p in (tmp_path / "data").iterdir()] == ["admin.key"]

    def test_a_full_disk_leaves_no_empty_key(self, tmp_path, monkeypatch):
        """A key that could not be written is not there: the next start makes one."""

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
        """Of two first starts on one folder one makes the key, and both have the same."""
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: path.name != "admin.key" and exists(path))
        assert stored_admin_key(tmp_path) == stored_admin_key(tmp_path)
