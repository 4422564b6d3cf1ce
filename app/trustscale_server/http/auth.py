"""Keys of admins and clients: compared in constant time, never shown."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from trustscale_server.bootstrap.sources import named_key
from trustscale_server.platform.errors import ConfigError, Unauthorized
from trustscale_server.stores.files import PRIVATE, create_file


class Keyring:
    """A set of keys, each `[NAME:]KEY`, kept as digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._ids: dict[bytes, str] = {}
        for text in keys:
            name, key = named_key(text)
            digest = _key_digest(key)
            self._ids[digest] = name or digest.hex()[:8]

    @property
    def is_empty(self) -> bool:
        return not self._ids

    def key_id(self, key: str | None) -> str | None:
        """Return the name of a key, else 8 digits of its digest, or None for an unknown key.

        Keys of one name are one client.
        """
        if not key:  # also where an empty one was configured by mistake
            return None
        digest = _key_digest(key)
        # All are compared, so that the time does not reveal which one matched.
        matches = [
            key_id for known, key_id in self._ids.items() if hmac.compare_digest(digest, known)
        ]
        return matches[0] if matches else None


def sent_key(headers: Mapping[str, str]) -> str | None:
    """Return the key in `Authorization: Bearer …` or `X-API-Key`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip() or None


def authenticate(keyring: Keyring, headers: Mapping[str, str]) -> str:
    """Return the id of the key that was sent.

    Raises:
        Unauthorized: no key was sent, or none of this keyring.
    """
    key = sent_key(headers)
    key_id = keyring.key_id(key)
    if key_id is None:
        raise Unauthorized("The key is not valid." if key else "A key is needed.")
    return key_id


def stored_admin_key(data_dir: Path) -> tuple[str, Path]:
    """Return the installation's admin key and its file, made at the first start.

    Raises:
        ConfigError: the file can be neither made nor read, or the stored key is damaged.
    """
    path = data_dir / "admin.key"
    try:
        data_dir.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if not path.exists():
            key = secrets.token_urlsafe(32)
            create_file(path, f"{key}\n".encode("ascii"), permissions=0o600)
        key = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"Cannot make or read the admin key {path}: {error.strerror}.") from error
    # 32 random bytes are 43 letters of base64.
    if len(key) < 43 or not key.isascii():
        raise ConfigError(
            f"The admin key in {path} is empty or damaged; remove the file, and the next start "
            "makes a new key."
        )
    return key, path


def _key_digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
