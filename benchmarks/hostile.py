"""What hostile input costs at most: files just under the bounds, and the same files beyond them.

    python -m benchmarks.hostile

Seconds are of one core (process time, threads included), memory is the growth of the process's
peak. "Under" is the costliest file of its kind that is still taken to pieces, "over" the same kind
ten times as large, which is refused by its bytes.

The second table is the time of an honest upload beside a client that asks for overlays of one
result.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from app.calibration.archive import ArchiveLimits, archive_files
from app.errors import TrustscaleError
from app.images.decode import Limits, decode
from app.telemetry.logs import configure_logs
from benchmarks.table import print_table
from tests.api.gateway import client_of, form, gateway, running
from tests.factories import calibration_of, encoded, photo
from tests.fakes import FakeUpscaler
from tests.images import hostile

Asked = asyncio.Task[httpx.Response]

PHOTOSHOP = b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000

# By kind: what makes the file, and the size of the largest one that is let through.
IMAGES: dict[str, tuple[Callable[[int], bytes], int]] = {
    "JPEG, 1 megapixel, scans": (lambda n: hostile.jpeg_of_scans(n, 1024), 480),
    "JPEG, 8×8, scans": (lambda n: hostile.jpeg_of_scans(n, 8), 250_000),
    "JPEG, remarks": (hostile.jpeg_of_segments, 120_000),
    "JPEG, another program's data": (lambda n: hostile.jpeg_of_segments(n, 0xED, PHOTOSHOP), 100),
    "PNG, empty chunks": (hostile.png_of_chunks, 120_000),
    "PNG, repeated profile": (hostile.png_of_profiles, 260),
    "PNG, idle deflate": (hostile.png_of_idle_deflate, 9_000_000),
    "WebP, unknown chunks": (hostile.webp_of_chunks, 120_000),
}


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
    """A zip file of empty members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for k in range(count):
            archive.writestr(f"y/{k}.png", b"")
    return out.getvalue()


ARCHIVES: dict[str, tuple[Callable[[int], bytes], int]] = {
    "tar.gz, skipped members": (tar_of_clutter, 60_000_000),
    "zip, members": (zip_of_names, 20_000),
}


def memory_kb(kind: str) -> int:
    """What the process holds now (VmRSS), or has held at most (VmHWM); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def look(path: Path, *, is_archive: bool) -> str:
    """Seconds, megabytes and outcome of one file in a process of its own."""
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory_kb("VmRSS")
    began = time.process_time()
    try:
        if is_archive:
            for file in archive_files(io.BytesIO(data), ArchiveLimits()):
                file.read()
        else:
            decode(data, Limits())
        outcome = "taken"
    except TrustscaleError as error:
        outcome = type(error).__name__
    seconds = time.process_time() - began
    grown = (memory_kb("VmHWM") - before) / 1024
    return f"{seconds:.2f}|{grown:.0f}|{outcome}"


def rows() -> list[list[str]]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for is_archive, kinds in ((False, IMAGES), (True, ARCHIVES)):
            for kind, (make, largest) in kinds.items():
                for place, size in (("under", largest), ("over", 10 * largest)):
                    path.write_bytes(make(size))
                    done = subprocess.run(
                        [sys.executable, "-m", __spec__.name, str(path), str(int(is_archive))],
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    size_kb = f"{path.stat().st_size / 1024:,.0f}"
                    found.append([kind, place, size_kb, *done.stdout.strip().split("|")])
    return found


async def beside_overlays(count: int = 200) -> list[list[str]]:
    """An honest upload alone, and after so many requests for overlays of one result."""
    upload = form(encoded(photo(1, 512, 512)))
    with tempfile.TemporaryDirectory() as folder:
        known = await calibration_of(FakeUpscaler())
        app = gateway(Path(folder), FakeUpscaler(), calibrations=[known])
        async with running(app) as served, client_of(served) as client:
            client.timeout = httpx.Timeout(600)

            async def honest(what: str, others: Sequence[Asked]) -> list[str]:
                began = time.perf_counter()
                answer = await client.post("/v1/upscale", **upload)
                seconds = time.perf_counter() - began
                told = Counter(other.status_code for other in await asyncio.gather(*others))
                outcomes = ", ".join(f"{told[code]} × {code}" for code in sorted(told))
                links.update(answer.json()["links"])
                return [what, f"{seconds:.2f}", str(answer.status_code), outcomes]

            links: dict[str, str] = {}
            await honest("first", [])
            alone = await honest("alone", [])
            paths = [f"{links['overlay']}?alpha={0.1 + k / 1000:.3f}" for k in range(count)]
            asked = [asyncio.create_task(client.get(path)) for path in paths]
            await asyncio.sleep(0)  # they are there first
            return [alone, await honest(f"beside {count} overlays", asked)]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(look(Path(sys.argv[1]), is_archive=sys.argv[2] == "1"))
    else:
        configure_logs("error", "console")
        print_table(["file", "bound", "KB", "seconds", "MB", "outcome"], rows())
        overlays = asyncio.run(beside_overlays())
        print_table(["honest upload", "seconds", "status", "overlays"], overlays)
