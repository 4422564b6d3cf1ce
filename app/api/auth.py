"""API keys: compared in constant time, as SHA-256; logs and errors never show a key."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from app.errors import ConfigError, Unauthorized


class Keyring:
    """A set of keys, kept as digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @property
    def empty(self) -> bool:
        return not self._digests

    def key_id(self, key: str | None) -> str | None:
        """The public id of a key (8 digits of its digest) if it belongs here, else None."""
        if key is None:
            return None
        digest = _digest(key)
        # Every digest is compared, so the time does not tell which one matched.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest.hex()[:8] if any(matches) else None


def sent_key(headers: Mapping[str, str]) -> str | None:
    """The key in `Authorization: Bearer …` or `X-API-Key`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key")


def require(keyring: Keyring, headers: Mapping[str, str]) -> str:
    """The id of the key that was sent.

    Raises:
        Unauthorized: no key, or one that does not belong to the keyring.
    """
    key = sent_key(headers)
    found = keyring.key_id(key)
    if found is None:
        raise Unauthorized("The key is not valid." if key else "A key is needed.")
    return found


def stored_admin_key(data_dir: Path) -> tuple[str, Path]:
    """The admin key of this installation and where it is; made at the first start, mode 0600.

    Raises:
        ConfigError: the data folder cannot be written.
    """
    path = data_dir / "admin.key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text("ascii").strip(), path
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            key = secrets.token_urlsafe(32)
            file.write(key + "\n")
        return key, path
    except OSError as error:
        raise ConfigError(f"Cannot write the admin key to {path}: {error.strerror}.") from error


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
