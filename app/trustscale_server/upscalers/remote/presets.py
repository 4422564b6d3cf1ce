"""The descriptions of well-known APIs that come with the service, in `upscalers/presets`."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any


def preset_names() -> list[str]:
    """Return the names of the shipped presets."""
    files = resources.files("trustscale_server.upscalers").joinpath("presets").iterdir()
    return sorted(
        name.removesuffix(".toml") for file in files if (name := file.name).endswith(".toml")
    )


def load_preset(name: str) -> dict[str, Any]:
    """Return the settings of one preset. Raises ValueError, listing them, if there is none."""
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    file = resources.files("trustscale_server.upscalers").joinpath("presets", f"{name}.toml")
    return tomllib.loads(file.read_text("utf-8"))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge the values of `over` into `base`, tables key by key."""
    merged = dict(base)
    for key, value in over.items():
        current = merged.get(key)
        are_tables = isinstance(current, dict) and isinstance(value, dict)
        merged[key] = merge(current, value) if are_tables and current is not None else value
    return merged
