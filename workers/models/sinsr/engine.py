"""SinSR as an engine of the worker."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.models.device import device_memory
from workers.models.engine import DeviceMemory, Engine, Job, fingerprint_of
from workers.models.sinsr.config import SinSRConfig
from workers.models.sinsr.model import SinSR

__all__ = ["SinSREngine", "fingerprint"]

# Raised whenever this package changes a pixel for the same weights and seed.
REVISION = 1

# Samples that are joined into one call on a GPU; the model splits them by free memory.
GPU_TOGETHER = 64


def fingerprint(config: SinSRConfig, weights_digest: str, dtype: str) -> str:
    """Identity of this network's samples.

    Args:
        config: all hyper-parameters; its name is a label and does not count.
        weights_digest: `networks_digest` of the weights.
        dtype: precision by name, such as "float32".
    """
    return fingerprint_of(
        {
            "engine": "sinsr",
            "revision": REVISION,
            "weights": weights_digest,
            "dtype": dtype,
            "config": config.model_dump(mode="json", exclude={"name"}),
        }
    )


class SinSREngine(Engine):
    """Wraps a loaded `SinSR`."""

    def __init__(self, model: SinSR, name: str = "sinsr") -> None:
        self._model = model
        self._name = name
        dtype = str(model.dtype).removeprefix("torch.")
        self._fingerprint = fingerprint(model.config, model.weights_digest, dtype)

    @property
    def name(self) -> str:
        return self._name

    @property
    def scale(self) -> int:
        return self._model.scale

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def distinct_samples(self) -> int | None:
        return None

    @property
    def together(self) -> int:
        if self._model.batch is not None:
            return self._model.batch
        return GPU_TOGETHER if self._model.device.type == "cuda" else 1

    def samples(self, image: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `SinSR.samples`."""
        return self._model.samples(image, seeds)

    def samples_of(self, jobs: Sequence[Job]) -> list[NDArray[np.uint8]]:
        """See `SinSR.samples_of`."""
        return self._model.samples_of(jobs)

    def memory(self) -> DeviceMemory:
        return device_memory(self._model.device)
