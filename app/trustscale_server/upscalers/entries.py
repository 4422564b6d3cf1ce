"""Entries of `[[upscalers]]` as text, added to a file of settings."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS

Entry = dict[str, Any]
"""An entry of `[[upscalers]]` as TOML has it."""


def add(path: Path, entry: Mapping[str, Any]) -> None:
    """Append the entry to the file, creating it if needed.

    A file that names no upscalers gets the shipped ones too, or they would disappear.

    Raises:
        ConfigError: the file cannot be written, is no TOML, or has an upscaler of that name.
    """
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        configured = tomllib.loads(text).get("upscalers", [])
        shipped = [{"name": name, "kind": "embedded", "model": name} for name in SHIPPED_MODELS]
        missing = [] if configured else shipped
        if entry["name"] in [upscaler.get("name") for upscaler in (*configured, *missing)]:
            raise ConfigError(f"{path} has an upscaler {entry['name']}; give another --name.")
        added = "".join(f"\n{toml_of(upscaler)}" for upscaler in (*missing, entry))
        tomllib.loads(text + added)
        with path.open("a", encoding="utf-8") as file:
            file.write(added if text else added.lstrip())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(f"{path}: an upscaler cannot be added to it ({error}).") from error


def toml_of(entry: Mapping[str, Any]) -> str:
    """Return the entry as TOML, a setting a line, without None, which TOML lacks."""
    leading = {name: entry[name] for name in ("name", "kind") if name in entry}
    settings = {key: value for key, value in {**leading, **entry}.items() if value is not None}
    lines = [f"{_key(key)} = {_value(value)}\n" for key, value in settings.items()]
    return f"[[upscalers]]\n{''.join(lines)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key)
