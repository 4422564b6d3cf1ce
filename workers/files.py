"""Facts about files, for which no library of tensors is needed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from workers.errors import ConfigError, WeightsError

__all__ = ["file_sha256", "read_json"]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error


def read_json(source: str | Path) -> dict[str, Any]:
    """A JSON object, given itself or as the path of a file.

    Raises:
        ConfigError: no such file, no JSON, or no object.
    """
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
