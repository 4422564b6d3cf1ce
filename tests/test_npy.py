"""numpy's files, read by many threads."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from trustscale_server.pixels.npy import read_array, read_arrays


@pytest.fixture
def hurried():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_many_threads_read_headers(hurried):
    array = np.arange(6, dtype=np.uint16).reshape(2, 3)
    one, several = io.BytesIO(), io.BytesIO()
    np.save(one, array)
    np.savez(several, a=array, b=array.T)

    def read(_):
        arrays = read_arrays(several.getvalue())
        return [read_array(one.getvalue()), arrays["a"], arrays["b"].T]

    with ThreadPoolExecutor(8) as threads:
        for arrays in threads.map(read, range(400)):
            assert all(np.array_equal(found, array) for found in arrays)


def test_no_objects_are_read():
    """A file of Python's objects runs code when it is read."""
    file = io.BytesIO()
    np.save(file, np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_array(file.getvalue())


def test_a_damaged_file():
    file = io.BytesIO()
    np.savez(file, a=np.arange(9))
    for data in (b"", b"text", file.getvalue()[:-30]):
        with pytest.raises(ValueError, match="zip"):
            read_arrays(data)
