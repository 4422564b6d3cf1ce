"""The noise of one sample, decided by its seed alone."""

import numpy as np
import torch

# PyTorch's CPU generator (Mersenne Twister) looks only at the low 32 bits of a seed.
NARROW = 2**32


class Noise:
    """Draws one sample's noise, tile by tile in running order.

    The stream depends on the seed and on nothing else: not on the device, the batch or the
    other samples. For seeds of up to 32 bits it is PyTorch's CPU generator seeded with the
    number as given. Wider and negative seeds would meet a narrow one's stream there, so all
    their 64 bits go through numpy's seed sequence instead: distinct seeds stay distinct.
    """

    def __init__(self, seed: int) -> None:
        self._torch: torch.Generator | None = None
        self._numpy: np.random.Generator | None = None
        if 0 <= seed < NARROW:
            self._torch = torch.Generator().manual_seed(seed)
        else:
            self._numpy = np.random.Generator(np.random.PCG64(seed % 2**64))

    def draw(self, *shape: int) -> torch.Tensor:
        """The next standard normal numbers, float32 of that shape, on the CPU."""
        if self._numpy is not None:
            return torch.from_numpy(self._numpy.standard_normal(shape, dtype=np.float32))
        return torch.randn(shape, generator=self._torch)

    def generator(self) -> torch.Generator:
        """What goes on with the stream in a library that draws by itself.

        A wide or negative seed has a stream of 32 bits there, taken from its own.
        """
        if self._torch is not None:
            return self._torch
        assert self._numpy is not None  # noqa: S101 - one of both
        return torch.Generator().manual_seed(int(self._numpy.integers(NARROW)))
