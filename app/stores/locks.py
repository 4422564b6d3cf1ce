"""A lock on a file, held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trustscale_server.errors import ConfigError
from trustscale_server.stores.files import PRIVATE

# What file systems without locks answer.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@contextmanager
def held(path: Path, message: str) -> Iterator[None]:
    """Hold a lock on a file, at most until this process ends.

    Raises ConfigError, with this message if another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        file = path.open("ab")
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be written: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(message) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
