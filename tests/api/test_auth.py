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


@pytest.fixture
def guarded(start):
    """A gateway whose public API needs a key."""
    return start(client_keys=["client-key", "second-key"])


class TestClientKeys:
    def test_the_api_is_open_without_keys(self, client):
        """Nothing is needed unless keys are configured; a superfluous key does no harm."""
        assert post(client).status_code == 200
        assert post(client, headers=BEARER).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            BEARER,
            HEADER,
            {"Authorization": "bearer client-key"},
            {"X-API-Key": "second-key"},
            {"X-API-Key": ADMIN_KEY},
            {"Authorization": f"Bearer {ADMIN_KEY}"},
        ],
    )
    def test_accepted(self, guarded, headers):
        """Either header carries the key; an admin may do what a client may."""
        assert post(guarded, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic client-key"},
            {"Authorization": "client-key"},
            {"X-API-Key": ""},
            {"X-API-Key": " "},
            {"X-API-Key": "client-key2"},
            {"X-API-Key": "ключ".encode()},
        ],
    )
    def test_refused(self, guarded, headers):
        """Anything else is 401 and says how to authenticate."""
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

    def test_nothing_is_told_without_a_key(self, guarded):
        """Whether a result exists is not told to strangers, nor is the upload judged."""
        check_problem(guarded.get("/v1/results/res-unknown"), "unauthorized")
        check_problem(post(guarded, b"text", aplha=1), "unauthorized")


class TestKeyring:
    def test_ids_are_stable_and_tell_nothing(self):
        """A key is known by 8 digits of its digest."""
        ring = Keyring(["a", "b"])
        assert ring.key_id("a") == Keyring(["a"]).key_id("a") != ring.key_id("b")
        assert ring.key_id("c") is ring.key_id(None) is None
        assert "a" not in vars(ring).values()

    def test_an_empty_key_is_none(self):
        """Nobody comes in with an empty key, even where one was configured by mistake."""
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

    def test_without_hard_links(self, tmp_path, monkeypatch):
        """A file system without hard links holds a key too."""

        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        key, path = stored_admin_key(tmp_path)
        assert stored_admin_key(tmp_path) == (key, path)
        assert list(tmp_path.iterdir()) == [path]
