"""Our engines as a model of Triton's Python backend; `worker export --triton` names this module.

Triton's module exists only in its backend processes.
"""

import importlib
import json
from collections.abc import Sequence
from typing import Any

from workers.errors import WorkerError
from workers.models.engine import EngineSpec, SampleRequest
from workers.models.registry import load_engine


class TritonPythonModel:
    """What Triton calls: one instance per process and device."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine that the parameters in `config.pbtxt` describe."""
        self._triton: Any = importlib.import_module("triton_python_backend_utils")
        given = json.loads(args["model_config"]).get("parameters", {})
        settings = {key: entry["string_value"] for key, entry in given.items()}
        gpu = args["model_instance_kind"] == "GPU"
        self._engine = load_engine(
            EngineSpec.of(
                {
                    **settings,
                    "name": args["model_name"],
                    "device": f"cuda:{args['model_instance_device_id']}" if gpu else "cpu",
                }
            )
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One answer per request."""
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
