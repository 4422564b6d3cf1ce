"""Files that let another server start our engines: Triton, KServe and Ray Serve."""

import json
from pathlib import Path

from workers.errors import ConfigError

__all__ = ["kserve", "ray", "triton"]

_PBTXT = """\
name: {name}
backend: "python"
max_batch_size: 0
input [
  {{ name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }},
  {{ name: "seeds" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [
  {{ name: "samples" data_type: TYPE_UINT8 dims: [ -1, -1, -1, 3 ] }}
]
instance_group [ {{ kind: KIND_AUTO count: 1 }} ]
{parameters}
"""

_MODEL_PY = '''\
"""Triton's Python backend looks for this class here; trustscale has it."""

from workers.triton import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''

_INFERENCE_SERVICE = """\
# kubectl apply -f this file, in a cluster with KServe. The image is that of `make images`;
# STORAGE_URI is where KServe fetches the weights from, into /mnt/models.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    minReplicas: 1
    containers:
      - name: kserve-container
        image: trustscale-worker
        args: [worker, --host=0.0.0.0, --port=8080, --device={device}, --weights=/mnt/models]
        env:
{environment}
        ports:
          - containerPort: 8080
            protocol: TCP
        readinessProbe:
          httpGet: {{path: /v2/health/ready, port: 8080}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {{drop: [ALL]}}
        volumeMounts:
          - {{name: tmp, mountPath: /tmp}}
          - {{name: uploads, mountPath: /var/tmp}}
        resources:
          limits: {{{gpu}memory: 16Gi}}
    volumes:
      - {{name: tmp, emptyDir: {{}}}}
      - {{name: uploads, emptyDir: {{}}}}
"""


_SERVE_YAML = """\
# serve deploy serve.yaml, on a cluster of Ray whose Python has trustscale and the engine's extra.
applications:
  - name: {name}
    route_prefix: /
    import_path: workers.rayserve:application
    args: {args}
    deployments:
      - name: worker
        num_replicas: 1
        ray_actor_options: {{num_gpus: {gpus}}}
"""


def triton(folder: Path, name: str, settings: dict[str, str]) -> list[Path]:
    """A model repository for Triton with one model of the Python backend.

    Args:
        folder: the repository, made if it is missing.
        name: of the model.
        settings: `model`, `weights` and the like, as the worker's options are called.

    Raises:
        ConfigError: a file is there already, or cannot be written.
    """
    parameters = "\n".join(
        f"parameters: {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"
        for key, value in settings.items()
    )
    text = _PBTXT.format(name=json.dumps(name), parameters=parameters)
    return _write({folder / name / "config.pbtxt": text, folder / name / "1/model.py": _MODEL_PY})


def kserve(folder: Path, name: str, settings: dict[str, str], device: str) -> list[Path]:
    """An `InferenceService` of KServe that starts our worker.

    Raises:
        ConfigError: a file is there already, or cannot be written.
    """
    variables = {f"WORKER_{key.upper()}": value for key, value in settings.items()}
    variables["STORAGE_URI"] = variables.pop("WORKER_WEIGHTS")
    lines = [
        f"          - {{name: {key}, value: {json.dumps(value)}}}"
        for key, value in variables.items()
    ]
    text = _INFERENCE_SERVICE.format(
        name=json.dumps(name),
        environment="\n".join(lines),
        device=device,
        gpu='nvidia.com/gpu: "1", ' if device.startswith("cuda") else "",
    )
    return _write({folder / "inferenceservice.yaml": text})


def ray(folder: Path, name: str, settings: dict[str, str], device: str) -> list[Path]:
    """A configuration of Ray Serve; each replica is a worker, of which Ray starts as many as told.

    Raises:
        ConfigError: a file is there already, or cannot be written.
    """
    args = json.dumps({**settings, "name": name, "device": device})
    gpus = int(device.startswith("cuda"))
    text = _SERVE_YAML.format(name=json.dumps(name), args=args, gpus=gpus)
    return _write({folder / "serve.yaml": text})


def _write(files: dict[Path, str]) -> list[Path]:
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    return list(files)
