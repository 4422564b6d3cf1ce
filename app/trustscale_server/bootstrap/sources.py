"""Sources of settings: the file, the variables that it refers to, and secrets as files."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from trustscale_server.platform.errors import ConfigError

CONFIG_VARIABLE = "TRUSTSCALE_CONFIG"
KEY_VARIABLE = "TRUSTSCALE_KEY"  # the key that the command line sends to a server
ENV_PREFIX = "TRUSTSCALE_"
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, KEY_VARIABLE, "TRUSTSCALE_URL"})
"""That are no settings; clients read the last."""

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Up to the last @, since passwords may hold colons, slashes and @ that are not encoded.
_PASSWORD = re.compile(r"://[^:@/]*:(.+)@|[?&]password=([^&#]+)")


def read_secret_files(environ: MutableMapping[str, str]) -> None:
    """Set NAME to the content of the file that NAME_FILE names, so that no engine shows a secret.

    For `TRUSTSCALE_*`, and for other names (passwords, tokens) if the file is in `/run/secrets`;
    SSL_CERT_FILE and the like keep their meaning. Raises ConfigError.
    """
    for variable, path in list(environ.items()):
        name = variable.removesuffix("_FILE")
        ours = name.startswith(ENV_PREFIX) or path.startswith("/run/secrets/")
        if name == variable or not path or not ours:
            continue
        try:
            environ[name] = Path(path).read_text("utf-8").strip()
        except (OSError, ValueError) as error:  # no UTF-8, or a zero byte
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(f"{variable}: cannot read {path}: {reason}.") from None
        del environ[variable]


def named_key(text: str) -> tuple[str | None, str]:
    """Return the name, if any, and the key of `[NAME:]KEY`."""
    name, separator, key = text.strip().partition(":")
    is_name = separator and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)
    return (name, key) if is_name else (None, text.strip())


def referenced_names() -> frozenset[str]:
    """Return the names of all variables that the file refers to."""
    path = _file()
    return frozenset(_REFERENCE.findall(path.read_text("utf-8")) if path is not None else ())


def referenced_values() -> frozenset[str]:
    """Return the values of all variables that the file refers to, which are never shown."""
    return frozenset(value for name in referenced_names() if (value := os.environ.get(name)))


def _file() -> Path | None:
    """The file of settings that is named or in the working folder."""
    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named or "trustscale.toml")
    try:
        return path if named or path.is_file() else None
    except PermissionError:
        raise ConfigError(
            f"User {os.getuid()} of group {os.getgid()} may not read the working folder "
            f"{path.absolute().parent}; in our images any user of group 0 may (--user NUMBER:0)."
        ) from None


def read_file() -> tuple[dict[str, Any], list[str]]:
    """Return the file of settings as a dictionary, empty if there is none, and its mistakes.

    References to unset variables stay as written. Raises ConfigError: not readable, or no TOML.
    """
    path = _file()
    if path is None:
        return {}, []
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    mistakes = []
    for name in ("client_keys", "admin_keys", "webhook_secrets", "credentials"):
        values = document.get(name, [])
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(value, str) and _REFERENCE.fullmatch(value) for value in values):
            mistakes.append(
                f'{name} may only hold references to environment variables, such as "${{MY_KEY}}"'
            )
    for name in ("store", "queue", "blobs"):
        password = _PASSWORD.search(str(document.get(name)))
        if password and not _REFERENCE.fullmatch(password.group(1) or password.group(2)):
            mistakes.append(
                f"the password in {name} must be a reference to an environment variable, such as "
                '"redis://:${REDIS_PASSWORD}@host"'
            )
    unset: list[str] = []
    resolved: dict[str, Any] = _resolve(document, unset)
    mistakes += [f"the environment variable {name} is not set" for name in unset]
    return resolved, [f"{path}: {mistake}" for mistake in dict.fromkeys(mistakes)]


def filled(text: str) -> str:
    """Return a text with the variables that it refers to. Raises ConfigError for unset ones."""
    unset: list[str] = []
    resolved = str(_resolve(text, unset))
    if unset:
        raise ConfigError(f"The environment variable {unset[0]} is not set.")
    return resolved


def _resolve(value: Any, unset: list[str]) -> Any:
    """Replace `${NAME}` in every string; collect unset variables."""
    if isinstance(value, dict):
        return {key: _resolve(item, unset) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, unset) for item in value]
    if not isinstance(value, str):
        return value
    unset += [name for name in _REFERENCE.findall(value) if name not in os.environ]
    return _REFERENCE.sub(lambda match: os.environ.get(match[1], match[0]), value)
