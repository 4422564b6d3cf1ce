"""The entry of an imported model in the file of settings."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from app.upscalers.config import EmbeddedConfig
from app.upscalers.shipped import SHIPPED
from workers.errors import ConfigError


def add(path: Path, entry: EmbeddedConfig) -> None:
    """Append the entry to the file, which is made if it is missing.

    Where the file names no upscalers, the shipped ones, which are there by default, are named too.

    Raises:
        ConfigError: no such file can be written, it is no TOML, or has an upscaler of that name.
    """
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        given = tomllib.loads(text).get("upscalers", [])
        default = () if given else tuple(EmbeddedConfig(name=name, model=name) for name in SHIPPED)
        names = [each.get("name") for each in given] + [each.name for each in default]
        if entry.name in names:
            raise ConfigError(f"{path} has an upscaler {entry.name}; give another --name")
        added = "".join(_table(each) for each in (*default, entry))
        tomllib.loads(text + added)
        with path.open("a", encoding="utf-8") as file:
            file.write(added if text else added.lstrip())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(f"{path}: an upscaler cannot be added to it ({error})") from error


def _table(entry: EmbeddedConfig) -> str:
    values = entry.model_dump(mode="json", exclude_defaults=True)
    rows = {"name": entry.name, "kind": entry.kind, **values}
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in rows.items())
    return f"\n[[upscalers]]\n{''.join(lines)}"
