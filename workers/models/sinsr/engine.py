"""SinSR as an engine of the worker."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.models.device import device_memory, gainful_batch
from workers.models.engine import DeviceMemory, Engine, SampleRequest, fingerprint_of
from workers.models.sinsr.config import SinSRConfig
from workers.models.sinsr.model import SinSR

__all__ = ["SinSREngine", "fingerprint"]

# Raised whenever this package changes a pixel for the same weights and seed.
REVISION = 1


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
        dtype = str(model.dtype).removeprefix("torch.")
        super().__init__(
            name,
            model.scale,
            fingerprint(model.config, model.weights_digest, dtype),
            together=model.batch or gainful_batch(model.device),
        )

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[NDArray[np.uint8]]:
        """See `SinSR.samples_of`."""
        return self._model.samples_of(jobs)

    def memory(self) -> DeviceMemory:
        return device_memory(self._model.device)
