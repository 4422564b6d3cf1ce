"""How large the gateway's environment is, and how long a start takes until it is ready.

    python -m benchmarks.startup                      # the program of this environment
    python -m benchmarks.startup --environment DIR    # another one, such as the image's

Each start gets an empty data folder: it makes the database and the admin key, and installs the
shipped calibration. Starts are timed from the call to the first 200 of /readyz. The
first one may read the program from the disk; the others find it in the page cache.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from tests.servers import free_port

PATIENCE_S = 60.0


def size_mb(folder: Path) -> float:
    """What the regular files below a folder hold, in 10^6 bytes."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def start_s(program: Path) -> tuple[float, float]:
    """Seconds from the call to ready, and from SIGTERM to the end."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TRUSTSCALE_")}
        began = time.perf_counter()
        with subprocess.Popen(
            [program, "serve", "--port", str(port)],
            env={**clean, "TRUSTSCALE_DATA_DIR": folder, "TRUSTSCALE_LOG_LEVEL": "error"},
            cwd=folder,
        ) as process:
            try:
                while not is_ready(port):
                    if process.poll() is not None:
                        raise SystemExit(f"{program} ended with {process.returncode}")
                    if time.perf_counter() - began > PATIENCE_S:
                        raise SystemExit(f"not ready after {PATIENCE_S:.0f} s")
                    time.sleep(0.01)
                ready = time.perf_counter() - began
                process.send_signal(signal.SIGTERM)
                asked = time.perf_counter()
                process.wait(PATIENCE_S)
                return ready, time.perf_counter() - asked
            finally:
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix))
    parser.add_argument("--starts", type=int, default=7)
    arguments = parser.parse_args()
    environment = arguments.environment

    (packages,) = environment.glob("lib/python3*/site-packages")
    own = sum(size_mb(packages / name) for name in ("app", "workers") if (packages / name).is_dir())
    print(f"dependencies: {size_mb(packages) - own:.0f} MB, byte code included; own: {own:.0f} MB")
    largest = sorted(((size_mb(p), p.name) for p in packages.iterdir() if p.is_dir()), reverse=True)
    print("largest:", ", ".join(f"{name} {size:.0f}" for size, name in largest[:6]))

    times = [start_s(environment / "bin" / "trustscale") for _ in range(arguments.starts)]
    ready = [time_ for time_, _ in times]
    print(
        f"ready after: first {ready[0]:.2f} s, median {statistics.median(ready):.2f} s, "
        f"worst {max(ready):.2f} s of {len(ready)}"
    )
    print(f"stopped after: median {statistics.median(end for _, end in times):.2f} s")


if __name__ == "__main__":
    main()
