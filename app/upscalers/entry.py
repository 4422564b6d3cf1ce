"""Entries of `[[upscalers]]` as text, and appending them to the settings file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import ConfigError
from app.upscalers.shipped import SHIPPED

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def add(path: Path, entry: Mapping[str, Any]) -> None:
    """Append the entry to the file, creating it if needed.

    A file that names no upscalers gets the shipped ones too, or they would disappear.

    Raises:
        ConfigError: the file cannot be written, is no TOML, or has an upscaler of that name.
    """
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        given = tomllib.loads(text).get("upscalers", [])
        default = [] if given else [shipped(name) for name in SHIPPED]
        if entry["name"] in [each.get("name") for each in (*given, *default)]:
            raise ConfigError(f"{path} has an upscaler {entry['name']}; give another --name.")
        added = "".join(f"\n{table(each)}" for each in (*default, entry))
        tomllib.loads(text + added)
        with path.open("a", encoding="utf-8") as file:
            file.write(added if text else added.lstrip())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(f"{path}: an upscaler cannot be added to it ({error}).") from error


def shipped(name: str) -> dict[str, Any]:
    """The entry of a shipped model."""
    return {"name": name, "kind": "embedded", "model": name}


def table(entry: Mapping[str, Any]) -> str:
    """The entry as TOML, a setting a line, without None, which TOML lacks."""
    first = {name: entry[name] for name in ("name", "kind") if name in entry}
    given = {key: value for key, value in {**first, **entry}.items() if value is not None}
    lines = [f"{_key(key)} = {_value(value)}\n" for key, value in given.items()]
    return f"[[upscalers]]\n{''.join(lines)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)
