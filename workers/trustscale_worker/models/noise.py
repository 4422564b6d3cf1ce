"""Random numbers of a sample's seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

# PyTorch's CPU generator (Mersenne Twister) uses only the low 32 bits of a seed.
_NARROW = 2**32


class Noise:
    """Draws one sample's noise, tile by tile in order, whatever the device and other samples.

    For seeds of up to 32 bits the stream is that of PyTorch's CPU generator. There wider and
    negative seeds would repeat a narrow one's stream, so their 64 bits seed numpy's generator.
    """

    def __init__(self, seed: int) -> None:
        narrow = 0 <= seed < _NARROW
        self._narrow = torch.Generator().manual_seed(seed if narrow else 0)
        self._wide = None if narrow else np.random.default_rng(seed % 2**64)

    def draw(self, *shape: int) -> torch.Tensor:
        """Return the next standard normal numbers, float32 on the CPU."""
        if self._wide is not None:
            return torch.from_numpy(self._wide.standard_normal(shape, dtype=np.float32))
        return torch.randn(shape, generator=self._narrow)

    def generator(self) -> torch.Generator:
        """Make a generator that continues the stream."""
        if self._wide is not None:
            self._narrow.manual_seed(int(self._wide.integers(_NARROW)))
        return self._narrow


def _itself(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    return tensor


# Drawing functions, and what makes an empty tensor for each.
_NORMAL: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.randn: torch.empty,
    torch.randn_like: torch.empty_like,
    torch.Tensor.normal_: _itself,
}


class SeededDraws(TorchFunctionMode):
    """Makes a network's draws of normal noise inside the `with` follow from a seed.

    The stream of each draw follows from the seed and the number of earlier draws. So a draw whose
    size does not depend on the image, such as a style, is the same in all tiles and on every
    device. Other draws are left alone; running twice detects them.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed % 2**64
        self._drawn = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Fill the result of a drawing function; call others as they are."""
        kwargs = kwargs or {}
        if func not in _NORMAL:
            return func(*args, **kwargs)
        target = _NORMAL[func](*args, **kwargs)
        stream = np.random.default_rng([self._seed, self._drawn])
        self._drawn += 1
        numbers = stream.standard_normal(tuple(target.shape), dtype=np.float32)
        return target.copy_(torch.from_numpy(numbers))
