"""SinSR as an engine of the worker."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from workers import weights
from workers.errors import ConfigError
from workers.models.device import device_memory, gainful_batch, use_threads
from workers.models.engine import (
    DeviceMemory,
    Engine,
    EngineSpec,
    SampleRequest,
    fingerprint_of,
)
from workers.models.sinsr import loader
from workers.models.sinsr.config import parse_config
from workers.models.sinsr.model import SinSR
from workers.models.sinsr.sampling import Sampling

# Raised whenever this package changes a pixel for the same weights and seed.
REVISION = 1


class SinSREngine(Engine):
    """Samples of a loaded `SinSR`; `batch` are the most at a time, None: as free memory allows."""

    def __init__(self, model: SinSR, name: str = "sinsr", batch: int | None = None) -> None:
        self.model = model
        self.batch = batch
        facts = {
            "engine": "sinsr",
            "revision": REVISION,
            "weights": model.weights_digest,
            "dtype": str(model.dtype).removeprefix("torch."),
            # Its name is a label and does not count.
            "config": model.config.model_dump(mode="json", exclude={"name"}),
        }
        super().__init__(
            name,
            model.scale,
            fingerprint_of(facts),
            together=batch or gainful_batch(model.device),
        )

    @classmethod
    def load(cls, spec: EngineSpec) -> Self:
        """See `Engine.load`; files (.pth or .safetensors) as published or converted."""
        if spec.weights is None or spec.autoencoder is None:
            raise ConfigError(
                "sinsr needs two weight files: give --weights and --autoencoder, or a folder"
            )
        use_threads(spec.threads)
        config = parse_config(spec.config)
        networks = SinSR.plan_networks(config)
        for network, path in zip(networks, (spec.weights, spec.autoencoder), strict=True):
            loader.fit(network, weights.read_state(path), str(path))
        model = SinSR(config, *networks, spec.device, spec.dtype, compiled=spec.compiled)
        return cls(model, spec.name or "sinsr", spec.batch)

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[NDArray[np.uint8]]:
        """See `Engine.samples_of`.

        Raises:
            ValueError: no image, or images of several sizes.
        """
        if len({job.image.shape for job in jobs}) != 1 or jobs[0].image.shape[2:] != (3,):
            raise ValueError("images of one batch must all be [h, w, 3] of one size")
        with torch.inference_mode():
            return Sampling(self.model, jobs, self.batch).run()

    def memory(self) -> DeviceMemory:
        return device_memory(self.model.device)
