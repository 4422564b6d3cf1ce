"""Our engines in other servers (Triton, Ray Serve), and the files that start them there."""

import importlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from trustscale_server.platform.errors import ConfigError
from trustscale_worker.errors import WorkerError
from trustscale_worker.models.engine import SampleRequest, load_engine
from trustscale_worker.settings import EngineSpec

_MODEL_PY = '''\
"""Triton's Python backend looks for this class here; trustscale has it."""

from trustscale_worker.export import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def triton(folder: Path, name: str, settings: dict[str, str]) -> list[Path]:
    """Make a model repository for Triton with one model of the Python backend.

    Raises:
        ConfigError: a file exists already, or cannot be written.
    """
    parameters = "\n".join(
        f"parameters: {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"
        for key, value in settings.items()
    )
    text = _filled("config.pbtxt", name=json.dumps(name), parameters=parameters)
    return _write({folder / name / "config.pbtxt": text, folder / name / "1/model.py": _MODEL_PY})


class TritonPythonModel:
    """The model class that Triton calls, one instance per process and device."""

    def initialize(self, args: dict[str, str]) -> None:
        # It exists only in Triton's backend processes.
        self._triton: Any = importlib.import_module("triton_python_backend_utils")
        parameters = json.loads(args["model_config"]).get("parameters", {})
        settings = {key: entry["string_value"] for key, entry in parameters.items()}
        gpu = args["model_instance_kind"] == "GPU"
        device = f"cuda:{args['model_instance_device_id']}" if gpu else "cpu"
        self._engine = load_engine(
            EngineSpec.from_settings({**settings, "name": args["model_name"], "device": device})
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        triton = self._triton
        image, seeds = (
            triton.get_input_tensor_by_name(request, name).as_numpy() for name in ("image", "seeds")
        )
        cancelled = getattr(request, "is_cancelled", None) or (lambda: False)
        try:
            [samples] = self._engine.samples_of([SampleRequest(image, seeds, cancelled)])
        except WorkerError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse(output_tensors=[triton.Tensor("samples", samples)])


def ray(folder: Path, name: str, settings: dict[str, str], device: str) -> list[Path]:
    """Make a configuration of Ray Serve whose replicas are workers."""
    args = json.dumps({**settings, "name": name, "device": device})
    gpus = int(device.startswith("cuda"))
    text = _filled("serve.yaml", name=json.dumps(name), args=args, gpus=gpus)
    return _write({folder / "serve.yaml": text})


def ray_application(settings: Mapping[str, str]) -> Any:
    """Make what Ray Serve deploys; `settings` are those of `EngineSpec.from_settings`."""
    serve: Any = importlib.import_module("ray.serve")
    spec = EngineSpec.from_settings(settings)

    def replica() -> Any:
        from trustscale_worker.service import create_worker_app  # noqa: PLC0415 - Triton's backend does without

        return create_worker_app(load_engine(spec))

    return serve.deployment(serve.ingress(replica)(), name="worker").bind()


def _filled(template: str, **values: object) -> str:
    text = resources.files(__package__).joinpath("templates", template).read_text("utf-8")
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
