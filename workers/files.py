"""Facts about files that need no tensor library."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from workers.errors import ConfigError, WeightsError

Settings = TypeVar("Settings", bound=BaseModel)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error


def read_json(source: str | Path) -> dict[str, Any]:
    """A JSON object, given as text or as the path of a file. Raises ConfigError."""
    text, origin = str(source), "configuration"
    try:
        if not text.lstrip().startswith("{"):
            origin = text
            text = Path(origin).read_text(encoding="utf-8")
        data = json.loads(text)
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{origin}: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{origin}: expected a JSON object")
    return data


def read_settings(kind: type[Settings], source: str | Path | dict[str, Any]) -> Settings:
    """Settings, given as a dict, as JSON, as the path of a JSON file, or as "official": defaults.

    Raises ConfigError: unreadable, or unknown or invalid settings, all named.
    """
    if source == "official":
        return kind()
    data = source if isinstance(source, dict) else read_json(source)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'configuration'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(f"configuration: {faults}") from error
