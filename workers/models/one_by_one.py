"""Engines that make their samples one at a time.

A model that always gives the same answer is sampled through its symmetries: the image is turned,
mirrored, its channels exchanged, its intensities inverted; the model runs; the change is undone.
Which change is `seed % 96`, as in the gateway's own embedded upscaler; models that see no colour
have the 8 geometric ones only. A model that draws at random takes the seed as it is.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from workers.errors import Cancelled
from workers.models.engine import Engine, Job

__all__ = ["OneByOneEngine"]


class OneByOneEngine(Engine):
    """Everything but the model and its memory."""

    def __init__(self, name: str, scale: int, fingerprint: str, order: int | None) -> None:
        """Keep what the service asks for.

        Args:
            name: what to call the model in URLs.
            scale: result side / input side.
            fingerprint: see `Engine.fingerprint`.
            order: how many distinct samples there are, and seeds with one remainder are one of
                them and cost one run; None: every seed is a sample of its own.
        """
        self._name = name
        self._scale = scale
        self._fingerprint = fingerprint
        self._order = order

    @property
    def name(self) -> str:
        return self._name

    @property
    def scale(self) -> int:
        return self._scale

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def distinct_samples(self) -> int | None:
        return self._order

    @property
    def together(self) -> int:
        return 1

    def samples(self, image: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """From uint8[h, w, 3] and int64[M] to uint8[M, k*h, k*w, 3]; see `Engine`."""
        [result] = self.samples_of([Job(image, seeds)])
        return result

    def samples_of(self, jobs: Sequence[Job]) -> list[NDArray[np.uint8]]:
        """See `Engine.samples_of`."""
        results = [self._job(job) for job in jobs]
        if all(job.cancelled() for job in jobs):
            raise Cancelled("nobody waits for these samples any more")
        return results

    @abstractmethod
    def _sample(
        self, image: NDArray[np.uint8], seed: int, cancelled: Callable[[], bool]
    ) -> NDArray[np.uint8]:
        """The sample of one seed, uint8[h, w, 3] -> uint8[k*h, k*w, 3].

        Args:
            image: the input.
            seed: below `order` where there is one.
            cancelled: see `Job`.

        Raises:
            Cancelled: `cancelled` answered true between two evaluations.
        """

    def _job(self, job: Job) -> NDArray[np.uint8]:
        height, width = job.image.shape[:2]
        k = self._scale
        result = np.empty((len(job.seeds), k * height, k * width, 3), np.uint8)
        made: dict[int, int] = {}
        for row, given in enumerate(job.seeds):
            seed = int(given) if self._order is None else int(given) % self._order
            if seed in made:
                result[row] = result[made[seed]]
                continue
            try:
                result[row] = self._sample(job.image, seed, job.cancelled)
            except Cancelled:
                break
            made[seed] = row
        return result
