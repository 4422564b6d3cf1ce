"""Pictures per second: a folder, against one command or one request per picture.

    python -m benchmarks.folder            # 40 pictures of 64×64, the shipped upscaler
    python -m benchmarks.folder PICTURES   # those of a folder

The server runs on the same machine. The program's own start is a part of every command.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import print_table
from benchmarks.timing import timed
from tests.factories import encoded, photo
from tests.servers import ProcessGroup, free_port
from trustscale import Trustscale

PROGRAM = [sys.executable, "-m", "app"]
ALONE = 5  # pictures that have a command of their own


def command(arguments: Sequence[object], env: dict[str, str]) -> None:
    subprocess.run(
        [*PROGRAM, "upscale", *map(str, arguments)], env=env, check=True, capture_output=True
    )


def made(folder: Path) -> Path:
    for k in range(40):
        (folder / f"{k:02}.png").write_bytes(encoded(photo(k, 64, 64)))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pictures", type=Path, nargs="?")
    given = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "made").mkdir()
        folder = given or made(base / "made")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        env = {
            **os.environ,
            "TRUSTSCALE_DATA_DIR": str(base / "here"),
            "PYTHONPATH": str(Path.cwd()),
        }
        there = {**env, "TRUSTSCALE_DATA_DIR": str(base / "there")}
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        server = [*PROGRAM, "serve", "--port", str(port)]
        command([files[0], "--out", base / "first"], env)  # installs the calibration
        rows = [
            (
                "a command per picture",
                ALONE,
                timed(lambda: [command([f, "--out", base / "one"], env) for f in files[:ALONE]]),
            ),
            (
                "one command for the folder",
                len(files),
                timed(lambda: command([folder, "--out", base / "all"], env)),
            ),
            (
                "the same again: all is done",
                len(files),
                timed(lambda: command([folder, "--out", base / "all"], env)),
            ),
        ]
        with ProcessGroup(server, log=base / "log", env=there) as process:
            process.wait_for(f"{url}/readyz", "the gateway")
            with Trustscale(url) as service:
                rows.append(
                    (
                        "a request per picture, one after the other",
                        len(files),
                        timed(lambda: [service.upscale(f) for f in files]),
                    )
                )
            remote = [folder, "--out", base / "remote", "--server", url]
            rows.append(
                ("the folder, on the server", len(files), timed(lambda: command(remote, env)))
            )
        print_table(
            ["", "pictures", "seconds", "pictures/s"],
            [(what, n, f"{took.wall:.1f}", f"{n / took.wall:.2f}") for what, n, took in rows],
        )


if __name__ == "__main__":
    main()
