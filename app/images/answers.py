"""What a decoder answers: JSON, with the bytes of arrays beside it.

A decoder may be in the hands of whoever made its file, so nothing in an answer is executed: it
names our own records, and arrays of three kinds whose sizes are compared with the bytes there are.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trustscale_server import errors
from trustscale_server.errors import BadInput

_DTYPES: Final = ("uint8", "uint16", "float32")
_MOST_AXES: Final = 3
_ALIGNED: Final = 8
_OURS: Final = f"{__name__.partition('.')[0]}."


def packed(answer: object) -> tuple[bytes, list[bytes | memoryview]]:
    """Return the JSON of an answer and the byte strings beside it, to be written in order.

    An answer is made of numbers, texts, bytes, lists, tuples, mappings, arrays of bool, uint8,
    uint16 and float32, frozen data classes, named tuples, and errors of the caller.

    Raises:
        TypeError: it has something else.
    """
    beside = _Beside()
    return json.dumps(_plain(answer, beside)).encode(), beside.pieces


def unpacked(head: bytes, beside: memoryview) -> Any:
    """Return the answer of `packed`; its arrays are views of those bytes.

    Raises:
        Exception: of any kind, if that is none.
    """
    return _built(json.loads(head), beside)


class _Beside:
    """Pieces of bytes, each of which begins at a multiple of `_ALIGNED`."""

    def __init__(self) -> None:
        self.pieces: list[bytes | memoryview] = []
        self._end = 0

    def add(self, piece: bytes | memoryview) -> int:
        gap = -self._end % _ALIGNED
        start = self._end + gap
        self.pieces += [bytes(gap), piece]
        self._end = start + len(piece)
        return start


def _plain(value: Any, beside: _Beside) -> Any:
    kind = type(value)
    if value is None or kind in {bool, int, float, str}:
        return value
    if kind is list:
        return [_plain(item, beside) for item in value]
    if kind is tuple:
        return {"tuple": _plain([*value], beside)}
    if isinstance(value, Mapping):
        return {"mapping": _plain([*value.items()], beside)}
    return _object(value, beside)


def _object(value: Any, beside: _Beside) -> dict[str, Any]:
    kind = type(value)
    if kind is bytes:
        return {"bytes": [beside.add(value), len(value)]}
    if isinstance(value, np.ndarray):
        return _array(value, beside)
    if isinstance(value, BadInput):
        return {"error": _plain([kind.__name__, value.detail, value.members], beside)}
    if not _is_record(kind):
        raise TypeError(f"a decoder cannot answer with {kind.__module__}.{kind.__name__}")
    members = value if isinstance(value, tuple) else [getattr(value, f.name) for f in fields(value)]
    return {"record": [kind.__module__, kind.__name__, _plain([*members], beside)]}


def _array(values: NDArray[Any], beside: _Beside) -> dict[str, Any]:
    if values.dtype == bool:
        return {"truths": _array(values.view(np.uint8), beside)}
    if values.dtype.name not in _DTYPES or not values.dtype.isnative:
        raise TypeError(f"a decoder cannot answer with an array of {values.dtype}")
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    return {"array": [values.dtype.name, list(values.shape), beside.add(raw)]}


def _is_record(kind: object) -> bool:
    """Whether this is a class of ours that holds data and does nothing else."""
    if not isinstance(kind, type) or not kind.__module__.startswith(_OURS):
        return False
    if is_dataclass(kind):
        return bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _built(value: Any, beside: memoryview) -> Any:
    if isinstance(value, list):
        return [_built(item, beside) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind in _RAW:
        return _RAW[kind](beside, *inner)
    return _MADE[kind](_built(inner, beside))


def _record(named: list[Any]) -> Any:
    module, name, members = named
    record_class = getattr(sys.modules[module], name)
    if not _is_record(record_class):
        raise TypeError(name)
    return record_class(*members)


def _error(named: list[Any]) -> BadInput:
    name, detail, members = named
    kind = getattr(errors, name)
    if not issubclass(kind, BadInput):
        raise TypeError(name)
    error: BadInput = kind(str(detail), **members)
    return error


def _values(beside: memoryview, dtype: str, shape: list[int], start: int) -> NDArray[Any]:
    if dtype not in _DTYPES or len(shape) > _MOST_AXES or any(side < 0 for side in shape):
        raise ValueError(dtype)
    kind = np.dtype(dtype)
    raw = _piece(beside, start, math.prod(shape) * kind.itemsize)
    return np.frombuffer(raw, kind).reshape(shape) if raw else np.empty(shape, kind)


def _piece(beside: memoryview, start: int, length: int) -> memoryview:
    if start < 0 or length < 0 or start % _ALIGNED or start + length > len(beside):
        raise ValueError(start)
    return beside[start : start + length]


def _bytes(beside: memoryview, start: int, length: int) -> bytes:
    return bytes(_piece(beside, start, length))


_RAW: Final[dict[str, Callable[..., Any]]] = {"array": _values, "bytes": _bytes}
_MADE: Final[dict[str, Callable[[Any], Any]]] = {
    "tuple": tuple,
    "mapping": dict,
    "truths": lambda numbers: numbers != 0,
    "error": _error,
    "record": _record,
}
