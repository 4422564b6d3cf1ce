"""What a network draws at random inside itself, decided by a seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode


def _itself(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    return tensor


# What draws, and what gives a tensor to be filled in its place.
_NORMAL: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.randn: torch.empty,
    torch.randn_like: torch.empty_like,
    torch.Tensor.normal_: _itself,
}


class SeededDraws(TorchFunctionMode):
    """Inside the `with`, standard normal draws follow from a seed alone.

    Every draw has a stream of its own, named by the seed and by how many went before it. So a
    draw whose size does not depend on the image, such as a style, is the same in all tiles of an
    image, and numbers drawn on the CPU are the same on every device. Other draws are left alone:
    who wants to know tries twice.
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
        """Fill what a drawing function would have filled; leave all other functions alone."""
        kwargs = kwargs or {}
        if func not in _NORMAL:
            return func(*args, **kwargs)
        target = _NORMAL[func](*args, **kwargs)
        stream = np.random.default_rng([self._seed, self._drawn])
        self._drawn += 1
        numbers = stream.standard_normal(tuple(target.shape), dtype=np.float32)
        return target.copy_(torch.from_numpy(numbers))
