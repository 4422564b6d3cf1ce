"""Compiles the kernels of the trust layer beside the work, and puts them to use when proven.

Until then, and where numba is absent, broken, or gives other bits than numpy, numpy does the work:
slower, and equal in every bit. The machine code is kept in the data folder, so that only the first
process compiles; it is kept nowhere else, since whoever can write such a folder can run code.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
import time
from pathlib import Path

import structlog

from app.conformal import compiled
from app.errors import ConfigError
from app.settings import Settings
from app.stores.folders import usable_folder

log = structlog.get_logger(__name__)


def start_warm_up(settings: Settings) -> threading.Thread | None:
    """Compile in a thread of its own, which a leaving process waits for; None: switched off."""
    if settings.compiled == "off":
        return None
    # Not a daemon: a process must not end while the compiler is at work in it.
    thread = threading.Thread(target=warm_up, args=(settings.data_dir,), name="warm-up")
    thread.start()
    return thread


def warm_up(data_dir: Path) -> bool:
    """Compile (the first time some seconds), prove, use. Whether the kernels are in use now."""
    if compiled.kernels() is not None:
        return True
    began = time.monotonic()
    try:
        numba = importlib.import_module("numba")
        # Without a folder that can be written numba would look for others.
        numba.config.CACHE_DIR = _cache(data_dir)
        kernels = importlib.import_module("app.conformal.kernels").Compiled()
        found = importlib.import_module("app.conformal.proof").disagreements(kernels)
    except Exception as error:  # noqa: BLE001 - numba fails in many ways; numpy goes on
        log.info("kernels_unavailable", reason=str(error).partition("\n")[0])
        return False
    if found:
        log.warning("kernels_disagree", kernels=found)
        return False
    compiled.use(kernels)
    log.info("kernels_in_use", seconds=round(time.monotonic() - began, 1))
    return True


def _cache(data_dir: Path) -> str:
    """The folder of the machine code of these very sources; empty: none can be written.

    numba looks at the file of a function only, not at the constants that it takes from others.
    """
    folder = Path(compiled.__file__).parent
    digest = hashlib.sha256()
    for name in ("kernels.py", "lab.py"):
        digest.update((folder / name).read_bytes())
    try:
        return str(usable_folder(data_dir / "kernels" / digest.hexdigest()[:16]))
    except ConfigError:
        return ""
