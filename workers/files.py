"""Facts about files that need no tensor library; known models, and which a folder holds."""

import hashlib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trustscale_server.config_errors import mistakes
from trustscale_worker.errors import ConfigError, WeightsError

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
    """A model of `files` or a `pipeline` of diffusers; `folder`: a part of its folder's name."""

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


class Found(BaseModel):
    """A model that a folder holds at least in part."""

    model: str
    weights: str
    checked: str = Field(description="sha256 or names: what it was recognised by.")
    present: list[str]
    missing: list[str]
    wrong: list[str] = Field(description="Files of another size or SHA-256 than published.")

    @property
    def complete(self) -> bool:
        return not self.missing and not self.wrong


def known_models() -> dict[str, KnownModel]:
    """All known models by name."""
    text = resources.files(__package__).joinpath("known.toml").read_text("utf-8")
    return {name: KnownModel.model_validate(row) for name, row in tomllib.loads(text).items()}


def identify(folder: Path) -> list[Found]:
    """Which known models a folder or its subfolders hold. Raises WeightsError."""
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise WeightsError(f"{folder}: {error.strerror or error}") from error
    places = [folder] if (folder / "model_index.json").is_file() else [folder, *inner]
    candidates = (
        _found(name, known, place) for place in places for name, known in known_models().items()
    )
    return [candidate for candidate in candidates if candidate is not None]


def _found(name: str, known: KnownModel, place: Path) -> Found | None:
    if known.pipeline is not None:
        return _pipeline(name, known.pipeline, place)
    if known.folder is not None and known.folder not in place.resolve().name.lower():
        return None
    present, missing, wrong = [], [], []
    for file in known.files:
        path = _path_of(place, file)
        if path is None:
            missing.append(file.name)
            continue
        present.append(path.name)
        published = path.name == file.name
        if published and file.size is not None and path.stat().st_size != file.size:
            wrong.append(f"{path.name}: {path.stat().st_size} bytes instead of {file.size}")
        elif published and file.sha256 is not None and file_sha256(path) != file.sha256:
            wrong.append(f"{path.name}: another SHA-256 than published")
    if not present:
        return None
    hashed = {file.name for file in known.files if file.sha256 is not None}
    return Found(
        model=name,
        weights=str(place),
        checked="sha256" if hashed >= set(present) else "names",
        present=present,
        missing=missing,
        wrong=wrong,
    )


def _path_of(place: Path, file: KnownFile) -> Path | None:
    names = [name for name in (file.name, file.either) if name is not None]
    names += [str(Path(name).with_suffix(".safetensors")) for name in names]
    return next((place / name for name in names if (place / name).is_file()), None)


def _pipeline(name: str, kind: str, place: Path) -> Found | None:
    index = place / "model_index.json"
    if not index.is_file():
        return None
    document: dict[str, Any] = read_json(index)
    if document.get("_class_name") != kind:
        return None
    subfolders = [
        name
        for name, origin in document.items()
        if isinstance(origin, list) and origin[:1] != [None] and name != "feature_extractor"
    ]
    present = [subfolder for subfolder in subfolders if _whole(place / subfolder)]
    return Found(
        model=name,
        weights=str(place),
        checked="names",
        present=present,
        missing=[subfolder for subfolder in subfolders if subfolder not in present],
        wrong=[],
    )


def _whole(subfolder: Path) -> bool:
    if not any(subfolder.glob("*.json")):
        return False
    has_weights = (subfolder / "config.json").is_file()
    return not has_weights or any(subfolder.glob("*.safetensors"))
