"""Facts about files that need no tensor library; known models."""

import hashlib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import ConfigError
from trustscale_worker.errors import WeightsError

T = TypeVar("T", bound=BaseModel)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error


def read_json(source: str | Path) -> dict[str, Any]:
    """Return a JSON object, given as text or as the path of a file. Raises ConfigError."""
    text, origin = str(source), "configuration"
    try:
        if not text.lstrip().startswith("{"):
            origin = text
            text = Path(origin).read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{origin}: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{origin}: expected a JSON object")
    return document


def read_settings(kind: type[T], source: str | Path | dict[str, Any]) -> T:
    """Read settings from a dict, JSON, the path of a JSON file, or "official" (the defaults).

    Raises ConfigError: unreadable, or unknown or invalid settings, all named.
    """
    if source == "official":
        return kind()
    document = source if isinstance(source, dict) else read_json(source)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"configuration: {mistakes(error, kind)}") from error


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownFile(_Strict):
    """A file of a model; `either` is an alternative."""

    name: str
    either: str | None = Field(None, alias="or")
    size: int | None = None
    sha256: str | None = None


class KnownModel(_Strict):
    """A model of `files`, or a `pipeline` of diffusers."""

    engine: str
    scale: int
    samples: str
    licence: str
    commerce: str
    address: str
    needs: str | None = None
    pipeline: str | None = None
    folder: str | None = None
    files: tuple[KnownFile, ...] = ()


def known_models() -> dict[str, KnownModel]:
    """Return all known models by name."""
    text = resources.files(__package__).joinpath("known.toml").read_text("utf-8")
    return {name: KnownModel.model_validate(row) for name, row in tomllib.loads(text).items()}
