"""What hostile input costs others: `python -m benchmarks.hostile [KIND]...`.

The kinds are uploads, attacks, bodies and archives.

Uploads: of each kind `--at-once` files come at the same time to a gateway, and beside them an
honest photograph of 256×192. "Waits" is the longest of its answers beyond the median of an idle
gateway. Memory is the peak of the gateway's process, and the largest sum of its decoders. At the
end SIGTERM comes while the slowest are decoded.

Attacks: 8, 20 and 40 files of one client come at the same time, again and again for half a minute,
and beside them the photograph of another client. The files are of 8000×8000 with fit=1000: one is
read, the other refused. In a control group of 2 GB
(`mkdir /sys/fs/cgroup/small; echo 2G > /sys/fs/cgroup/small/memory.max`, then `echo $$ >
/sys/fs/cgroup/small/cgroup.procs` before this; with version 1 of the groups, `memory/small` and
`memory.limit_in_bytes`) decoders have 512 MiB for all large files.

Bodies: one connection sends a body in pieces of a byte, or of nothing, again and again for a third
of a minute, and beside it come the photograph and `/healthz`. "Core" is the part of one that the
gateway used in a time without the photograph.

Archives: "under" is the costliest accepted archive of its kind, "over" ten times as large; seconds
are of one core.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx

from benchmarks.table import print_table
from harness import hostile
from harness.factories import encoded, photo
from harness.servers import ProcessGroup, free_port
from trustscale_server.calibrating.intake.archive import ArchiveLimits, archive_files
from trustscale_server.platform.errors import TrustscaleError
from trustscale_server.platform.telemetry.logs import configure_logs

HONEST = encoded(photo(1, 192, 256))
DRAIN_S = 60.0
_TIMEOUT_S = 300.0
_SLOWEST = ("TIFF, tiles of a pixel", "JPEG, remarks")
_ATTACK_S = 30.0
_BODY_S = 20.0
_CLIENTS = {"attacker": "attacker-" + 32 * "a", "honest": "honest-" + 32 * "b"}
_ATTACKS = {"six scans, as programs write them": 0, "more scans than are allowed": 8000}


@contextmanager
def served(folder: Path, **more: str) -> Iterator[tuple[ProcessGroup, str]]:
    port = free_port()
    command = [sys.executable, "-m", "trustscale_server", "serve", "--port", str(port)]
    settings = {"TRUSTSCALE_DATA_DIR": str(folder), "TRUSTSCALE_REQUEST_TIMEOUT_S": str(DRAIN_S)}
    settings |= more
    with ProcessGroup(command, log=folder / "log", env=settings) as server:
        server.wait_for(f"http://127.0.0.1:{port}/readyz", "the gateway")
        yield server, f"http://127.0.0.1:{port}/v1/upscale"


def upload(url: str, data: bytes, client: str = "", **fields: str) -> tuple[str, float]:
    """The outcome of an upload, and its seconds."""
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {_CLIENTS[client]}"} if client else {}
    files = {"image": data}
    try:
        answer = httpx.post(url, files=files, data=fields, headers=headers, timeout=_TIMEOUT_S)
        reply = answer.json()
        outcome = "taken" if answer.is_success else reply["type"].rsplit("/", 1)[-1]
    except httpx.TransportError:
        outcome = "cut off"
    return outcome, time.perf_counter() - began


def status_mb(process: int, kind: str) -> float:
    """VmRSS or VmHWM of a process; 0 of one that has ended. Linux only."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024
    return 0.0


def below(process: int) -> list[int]:
    try:
        reply = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    children = [int(child) for child in reply.split()]
    return [*children, *(deeper for child in children for deeper in below(child))]


class Watch:
    """Looks at the memory of a gateway while a `with` lasts."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.decoders = 0.0

    def _look(self) -> None:
        while not self._ends.wait(0.02):
            held = sum(status_mb(child, "VmRSS:") for child in below(self._process))
            self.decoders = max(self.decoders, held)

    def __enter__(self) -> Self:
        Path(f"/proc/{self._process}/clear_refs").write_text("5")  # the peak begins anew
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def gateway(self) -> float:
        return status_mb(self._process, "VmHWM:")


def beside_uploads(at_once: int) -> None:
    """An honest upload beside each kind of hostile ones, and the end of the gateway."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder)) as (server, url),
        ThreadPoolExecutor(at_once) as clients,
    ):
        process = server.process.pid
        alone = [upload(url, HONEST)[1] for _ in range(9)][1:]
        idle, first = statistics.median(alone), status_mb(process, "VmRSS:")
        for kind, make in hostile.UPLOADS.items():
            data = make()
            with Watch(process) as watch:
                asked = [clients.submit(upload, url, data) for _ in range(at_once)]
                waited = [upload(url, HONEST)]
                while not all(one.done() for one in asked):
                    waited.append(upload(url, HONEST))
            outcomes = Counter(one.result()[0] for one in asked)
            rows.append(
                [
                    kind,
                    f"{len(data) / 1024:,.1f}",
                    f"{max(seconds for _, seconds in waited) - idle:.2f}",
                    ", ".join(sorted({outcome for outcome, _ in waited})),
                    f"{max(one.result()[1] for one in asked):.1f}",
                    f"{watch.gateway:.0f}",
                    f"{watch.decoders:.0f}",
                    ", ".join(f"{count} × {outcome}" for outcome, count in outcomes.items()),
                ]
            )
            print(rows[-1], file=sys.stderr)
        files = [hostile.UPLOADS[kind]() for kind in _SLOWEST] * 2
        last = [clients.submit(upload, url, data) for data in files[:at_once]]
        with suppress(TimeoutError):
            last[0].result(1)
        began = time.perf_counter()
        server.send(signal.SIGTERM)
        server.process.wait()
        ended = time.perf_counter() - began
    head = ["file", "KB", "waits, s", "answer", "hostile, s", "MB", "decoders, MB", "outcome"]
    print_table(head, rows)
    print(f"idle: {idle:.2f} s ({min(alone):.2f} to {max(alone):.2f}), {first:.0f} MB")
    print(f"SIGTERM while they are decoded: ended after {ended:.1f} s")


def under_attack() -> list[list[str]]:
    """What an honest client meets beside a crowd of files of another."""
    rows = []
    keys = ",".join(f"{name}:{key}" for name, key in _CLIENTS.items())
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), TRUSTSCALE_CLIENT_KEYS=keys) as (_, url),
    ):
        alone = max(upload(url, HONEST, "honest")[1] for _ in range(9))
        for kind, scans in _ATTACKS.items():
            data = hostile.jpeg_of_scans(scans, 8000)
            for count in (8, 20, 40):
                ends = time.monotonic() + _ATTACK_S
                hostile_ones: Counter[str] = Counter()

                def attack(data: bytes = data, ends: float = ends) -> list[str]:
                    outcomes = []
                    while time.monotonic() < ends:
                        outcomes.append(upload(url, data, "attacker", fit="1000")[0])
                    return outcomes

                with ThreadPoolExecutor(count) as crowd:
                    asked = [crowd.submit(attack) for _ in range(count)]
                    honest = []
                    while time.monotonic() < ends:
                        honest.append(upload(url, HONEST, "honest"))
                    for one in asked:
                        hostile_ones.update(one.result())
                waits = [seconds for _, seconds in honest]
                rows.append(
                    [
                        kind,
                        str(count),
                        f"{statistics.median(waits):.2f}",
                        f"{max(waits):.2f}",
                        ", ".join(sorted({outcome for outcome, _ in honest})),
                        ", ".join(f"{n} × {outcome}" for outcome, n in hostile_ones.items()),
                    ]
                )
                print(rows[-1], file=sys.stderr)
    return [*rows, ["alone", "0", "", f"{alone:.2f}", "", ""]]


def posted(path: str, *headers: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: a", "Content-Type: multipart/form-data; boundary=x")
    return "\r\n".join((*lines, *headers, "", "")).encode()


_FILE = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
_ENDLESS = posted("/v1/upscale", "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (
    len(_FILE),
    _FILE,
)
_FORM = (
    b"POST /v1/upscale HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
)
BODIES: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "chunks of a byte": (_ENDLESS, b"1\r\nx\r\n" * 1000),
    "chunks that nobody reads": (
        posted("/healthz", "Transfer-Encoding: chunked"),
        b"1\r\nx\r\n" * 1000,
    ),
    "chunks of 64 bytes": (_ENDLESS, (b"40\r\n" + 64 * b"x" + b"\r\n") * 100),
    "packets of a byte": (posted("/v1/upscale", "Content-Length: 30000000") + _FILE, b"x"),
    "separators of a form": (_FORM, b"&" * 10_000),
}


def sent_again_and_again(url: str, head: bytes, piece: bytes, ends: float) -> None:
    """Send a body until it is refused, and begin anew."""
    host, port = url.split("/")[2].split(":")
    while time.monotonic() < ends:
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.sendall(head)
            while piece and time.monotonic() < ends:
                with suppress(TimeoutError):
                    wire.send(piece)


def core_seconds(process: int) -> float:
    """Seconds of cores that a process has used. Linux only."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def beside_bodies() -> list[list[str]]:
    """What others meet beside one who sends a body in tiny pieces."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (server, url):
        upload(url, HONEST)
        for kind, (head, piece) in BODIES.items():
            ends = time.monotonic() + _BODY_S
            attack = threading.Thread(target=sent_again_and_again, args=(url, head, piece, ends))
            attack.start()
            began, used = time.monotonic(), core_seconds(server.process.pid)
            time.sleep(_BODY_S / 4)
            share = (core_seconds(server.process.pid) - used) / (time.monotonic() - began)
            honest, health = [], []
            while time.monotonic() < ends:
                honest.append(upload(url, HONEST))
                asked = time.perf_counter()
                httpx.get(url.replace("/v1/upscale", "/healthz"), timeout=_TIMEOUT_S)
                health.append(time.perf_counter() - asked)
            attack.join()
            waits = [seconds for _, seconds in honest]
            rows.append(
                [
                    kind,
                    f"{share:.2f}",
                    f"{statistics.median(waits):.2f}",
                    f"{max(waits):.2f}",
                    f"{max(health):.3f}",
                    ", ".join(sorted({outcome for outcome, _ in honest})),
                ]
            )
            print(rows[-1], file=sys.stderr)
    return rows


def tar_of_clutter(size: int) -> bytes:
    """A packed tar file of members that are skipped, of so many bytes together."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for k in range(max(1, size // 10**7)):
            info = tarfile.TarInfo(f"__MACOSX/{k}")
            info.size = 10**7
            archive.addfile(info, io.BytesIO(bytes(10**7)))
    return out.getvalue()


def zip_of_names(count: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for k in range(count):
            archive.writestr(f"y/{k}.png", b"")
    return out.getvalue()


ARCHIVES: dict[str, tuple[Callable[[int], bytes], int]] = {
    "tar.gz, skipped members": (tar_of_clutter, 60_000_000),
    "zip, members": (zip_of_names, 20_000),
}


def look(path: Path) -> str:
    """Seconds, megabytes and outcome of one archive in a separate process."""
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status_mb(os.getpid(), "VmRSS:")
    began = time.process_time()
    try:
        for file in archive_files(io.BytesIO(data), ArchiveLimits()):
            file.read()
        outcome = "taken"
    except TrustscaleError as error:
        outcome = type(error).__name__
    seconds = time.process_time() - began
    grown = status_mb(os.getpid(), "VmHWM:") - before
    return f"{seconds:.2f}|{grown:.0f}|{outcome}"


def archives() -> list[list[str]]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for kind, (make, largest) in ARCHIVES.items():
            for place, size in (("under", largest), ("over", 10 * largest)):
                path.write_bytes(make(size))
                done = subprocess.run(
                    [sys.executable, "-m", __spec__.name, "--look", str(path)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                size_kb = f"{path.stat().st_size / 1024:,.0f}"
                found.append([kind, place, size_kb, *done.stdout.strip().split("|")])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["uploads", "attacks", "bodies", "archives"])
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--look", type=Path)
    chosen = parser.parse_args()
    if chosen.look:
        print(look(chosen.look))
        sys.exit()
    configure_logs("error", "console")
    if "uploads" in chosen.what:
        beside_uploads(chosen.at_once)
    if "attacks" in chosen.what:
        head = ["8000×8000", "at once", "honest, median s", "longest s", "answer", "the others"]
        print_table(head, under_attack())
    if "bodies" in chosen.what:
        head = ["body", "core", "honest, median s", "longest s", "healthz, longest s", "answer"]
        print_table(head, beside_bodies())
    if "archives" in chosen.what:
        print_table(["archive", "bound", "KB", "seconds", "MB", "outcome"], archives())
