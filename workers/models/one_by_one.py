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

from workers.errors import ClientGone
from workers.models.engine import Engine, SampleRequest, stop_if_alone


class OneByOneEngine(Engine):
    """Everything but the model and its memory.

    Of seeds that leave one remainder modulo `distinct_samples`, only the first costs a run.
    """

    def samples_of(self, jobs: Sequence[SampleRequest]) -> list[NDArray[np.uint8]]:
        """See `Engine.samples_of`."""
        results = [self._job(job) for job in jobs]
        stop_if_alone(jobs)
        return results

    @abstractmethod
    def _sample(
        self, image: NDArray[np.uint8], seed: int, cancelled: Callable[[], bool]
    ) -> NDArray[np.uint8]:
        """The sample of one seed, uint8[h, w, 3] -> uint8[k*h, k*w, 3].

        Args:
            image: the input.
            seed: below `distinct_samples` where there is such a number.
            cancelled: see `SampleRequest`.

        Raises:
            ClientGone: `cancelled` answered true between two evaluations.
        """

    def _job(self, job: SampleRequest) -> NDArray[np.uint8]:
        height, width = job.image.shape[:2]
        k, order = self.scale, self.distinct_samples
        result = np.empty((len(job.seeds), k * height, k * width, 3), np.uint8)
        made: dict[int, int] = {}
        for row, given in enumerate(job.seeds):
            seed = int(given) if order is None else int(given) % order
            if seed in made:
                result[row] = result[made[seed]]
                continue
            try:
                result[row] = self._sample(job.image, seed, job.cancelled)
            except ClientGone:
                break
            made[seed] = row
        return result
