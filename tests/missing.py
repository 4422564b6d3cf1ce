"""What becomes of a test that needs a program which this machine does not have."""

import os
from contextlib import contextmanager

import pytest

from harness.servers import ServerMissing


def not_here(missing):
    """End the test: in CI it fails, elsewhere it is skipped with the reason."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must run these tests: {missing}")
    pytest.skip(str(missing))


@contextmanager
def needed():
    """End the test if a program is missing that is looked for inside."""
    try:
        yield
    except ServerMissing as missing:
        not_here(missing)
