"""numpy's files, read by one thread at a time.

numpy reads a header with Python's parser of literals. Python 3.11 counts the depth of all threads'
parsers together: two that parse at once may both fail ("recursion depth mismatch").
"""

from __future__ import annotations

import io
import threading
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PARSING = threading.Lock()


def read_header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is in Fortran's order, and type, of a file of version 1.0."""
    with _PARSING:
        return np.lib.format.read_array_header_1_0(file)


def read_array(data: bytes) -> NDArray[Any]:
    """Return the array of an .npy file. Raises ValueError."""
    with _PARSING:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file by their names. Raises ValueError."""
    try:
        # Nobody waits while members are decompressed.
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            return {
                name.removesuffix(".npy"): read_array(members.read(name))
                for name in members.namelist()
            }
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
