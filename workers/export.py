"""Files with which other servers start our engines: Triton, KServe and Ray Serve."""

import json
from importlib import resources
from pathlib import Path
from string import Template

from workers.errors import ConfigError

_MODEL_PY = '''\
"""Triton's Python backend looks for this class here; trustscale has it."""

from workers.triton import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def triton(folder: Path, name: str, settings: dict[str, str]) -> list[Path]:
    """A model repository for Triton with one model of the Python backend.

    Args:
        folder: the repository.
        name: of the model.
        settings: the worker's options.

    Raises:
        ConfigError: a file exists already, or cannot be written.
    """
    parameters = "\n".join(
        f"parameters: {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"
        for key, value in settings.items()
    )
    text = _filled("config.pbtxt", name=json.dumps(name), parameters=parameters)
    return _write({folder / name / "config.pbtxt": text, folder / name / "1/model.py": _MODEL_PY})


def kserve(folder: Path, name: str, settings: dict[str, str], device: str) -> list[Path]:
    """An `InferenceService` of KServe that starts our worker; see `triton`."""
    variables = {f"WORKER_{key.upper()}": value for key, value in settings.items()}
    variables["STORAGE_URI"] = variables.pop("WORKER_WEIGHTS")
    lines = [
        f"          - {{name: {key}, value: {json.dumps(value)}}}"
        for key, value in variables.items()
    ]
    text = _filled(
        "inferenceservice.yaml",
        name=json.dumps(name),
        environment="\n".join(lines),
        device=device,
        gpu='nvidia.com/gpu: "1", ' if device.startswith("cuda") else "",
    )
    return _write({folder / "inferenceservice.yaml": text})


def ray(folder: Path, name: str, settings: dict[str, str], device: str) -> list[Path]:
    """A configuration of Ray Serve whose replicas are workers; see `triton`."""
    args = json.dumps({**settings, "name": name, "device": device})
    gpus = int(device.startswith("cuda"))
    text = _filled("serve.yaml", name=json.dumps(name), args=args, gpus=gpus)
    return _write({folder / "serve.yaml": text})


def _filled(template: str, **values: object) -> str:
    text = resources.files("workers").joinpath("templates", template).read_text("utf-8")
    return Template(text).substitute(values)


def _write(files: dict[Path, str]) -> list[Path]:
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    return list(files)
