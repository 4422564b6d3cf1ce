"""What a function of a file returns, on its way out of a decoder: msgspec behind bytes of arrays.

A decoder may be in the hands of whoever made its file. So its answer must have exactly the type
that its function declares to return, and the sizes of arrays are compared with the bytes there are.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import numpy as np
from msgspec import convert, msgpack
from numpy.typing import NDArray

_ALIGNED: Final = 8

# msgspec may crash where two threads learn a type at the same time.
_learning: Final = threading.Lock()


class _Array(NamedTuple):
    """An array whose bytes begin at `start` of the shared file."""

    dtype: str
    shape: tuple[int, ...]
    start: int


def packed(answer: object) -> tuple[list[bytes | memoryview], int]:
    """Return the bytes of an answer, to be written in order, and where the answer itself begins.

    An answer is made of what msgspec knows, data classes among it, and of arrays of numbers.

    Raises:
        TypeError: it has something else.
    """
    pieces: list[bytes | memoryview] = []
    end = 0

    def beside(values: object) -> _Array:
        nonlocal end
        if not isinstance(values, np.ndarray) or values.dtype.hasobject:
            raise TypeError(f"a decoder cannot answer with {type(values).__name__}")
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        start = end + -end % _ALIGNED
        pieces.extend((bytes(start - end), raw))
        end = start + len(raw)
        return _Array(values.dtype.name, values.shape, start)

    head = msgpack.encode(answer, enc_hook=beside)
    return [*pieces, head], end


def unpacked(shared: memoryview, start: int, function: Callable[..., object]) -> Any:
    """Return the answer of a function as `packed`; its arrays are views of those bytes.

    Raises:
        Exception: of any kind, if the bytes hold no answer.
    """
    if not 0 <= start <= len(shared):
        raise ValueError(start)

    def array(kind: Any, value: object) -> NDArray[Any]:
        place = _Array(*convert(value, tuple[str, tuple[int, ...], int]))
        return _array(kind, place, shared[:start])

    with _learning:
        decoder = msgpack.Decoder(_declared(function), dec_hook=array)
    return decoder.decode(shared[start:])


@cache
def _declared(function: Callable[..., object]) -> Any:
    return get_type_hints(function)["return"]


def _array(kind: Any, array: _Array, beside: memoryview) -> NDArray[Any]:
    dtype = np.dtype(array.dtype)
    if dtype.type not in _dtypes(kind) or len(array.shape) > 3:
        raise ValueError(array.dtype)
    end = array.start + math.prod(array.shape) * dtype.itemsize
    if min(0, array.start, *array.shape) < 0 or array.start % _ALIGNED or end > len(beside):
        raise ValueError(array.start)
    if dtype.kind == "b":  # other bytes than 0 and 1 are no truths
        return np.ndarray(array.shape, np.uint8, beside, array.start).astype(bool)
    return np.ndarray(array.shape, dtype, beside, array.start)


def _dtypes(kind: Any) -> tuple[type, ...]:
    """The types of numbers that `NDArray[…]` allows, one or a union."""
    (dtype,) = get_args(get_args(kind)[1])
    return get_args(dtype) or (dtype,)
