"""Descriptions of well-known HTTP APIs for kind `http`, as data."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any


def preset_names() -> list[str]:
    """The names of the shipped presets."""
    folder = resources.files(__name__)
    return sorted(
        file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")
    )


def load_preset(name: str) -> dict[str, Any]:
    """The settings of one preset.

    Raises:
        ValueError: no such preset; the message lists them.
    """
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    return tomllib.loads(resources.files(__name__).joinpath(f"{name}.toml").read_text("utf-8"))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, tables merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = merge(old, value) if both and old is not None else value
    return merged
