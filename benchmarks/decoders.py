"""What decoding takes per pixel, by form: what the allowance of decoders has to cover.

    python -m benchmarks.decoders [--side 3072]

Of noisy photographs. Memory is the growth of the address space at its peak beyond what every file
may take, seconds are of one core. The second table is what a decoder costs one picture of 512×512.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from benchmarks.table import print_table
from trustscale_server.images.decode import decode
from trustscale_server.images.header import installed_formats
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import in_decoder
from trustscale_server.images.sandbox.costs import BYTES_PER_PIXEL, SECONDS_PER_PIXEL
from trustscale_server.platform.errors import BadInput

_ROUNDS = 100


def picture(side: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture with much noise."""
    random = np.random.default_rng(1)
    ramp = np.linspace(30, 220, side)[:, None, None] + random.normal(0, 12, (side, side, 3))
    image = Image.fromarray(ramp.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(np.asarray(image)[..., 0].astype(np.float32) / 255)
    return image.convert(mode)


def encoded(form: str, mode: str = "RGB", **options: object) -> Callable[[int], bytes]:

    def made(side: int) -> bytes:
        out = io.BytesIO()
        picture(side, mode).save(out, form, **options)
        return out.getvalue()

    return made


def turned() -> bytes:
    """EXIF that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def kinds() -> dict[str, Callable[[int], bytes]]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    found = {
        "JPEG": encoded("JPEG", quality=95),
        "JPEG, progressive, turned": encoded("JPEG", progressive=True, quality=95, exif=turned()),
        "JPEG, CMYK": encoded("JPEG", "CMYK", quality=95),
        "PNG": encoded("PNG", compress_level=1),
        "PNG, transparent, profile": encoded("PNG", "RGBA", compress_level=1, icc_profile=profile),
        "PNG, 16 bits, grey": encoded("PNG", "I;16", compress_level=1),
        "WebP": encoded("WEBP", quality=95),
        "WebP, lossless, transparent": encoded("WEBP", "RGBA", lossless=True, method=0, quality=0),
        "AVIF": encoded("AVIF", speed=10, quality=90),
        "TIFF, LZW, turned": encoded("TIFF", compression="tiff_lzw", exif=turned()),
        "TIFF, deflate, floats": encoded("TIFF", "F", compression="tiff_deflate"),
        "BMP": encoded("BMP"),
        "GIF": encoded("GIF", "P"),
    }
    if "HEIF" in installed_formats():
        found["HEIF"] = encoded("HEIF", quality=90)
    if "JXL" in installed_formats():
        found["JPEG XL"] = encoded("JXL", quality=90, effort=1)
        found["JPEG XL, lossless"] = encoded("JXL", lossless=True, effort=1)
    return found


def address_space(kind: str) -> int:
    """Bytes, now (VmSize) or at most (VmPeak); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def measured(data: bytes, limits: Limits) -> list[float]:
    """Bytes and seconds that decoding takes, in a decoder."""
    before, began = address_space("VmSize"), time.process_time()
    image = decode(data, limits, with_alpha=True)
    seconds, grown = time.process_time() - began, address_space("VmPeak") - before
    return [float(grown), seconds, float(image.rgb.size / 3)]


def per_pixel(side: int) -> list[list[str]]:
    from benchmarks.decoders import measured  # noqa: PLC0415 - by a name that decoders know

    rows, limits = [], Limits(2**30, side * side, side)
    for kind, make in kinds().items():
        data = make(side)
        try:
            grown, seconds, pixels = in_decoder(measured, data, limits)
        except BadInput as error:
            rows.append([kind, f"{len(data) / 2**20:.1f}", str(error)[:60], ""])
            continue
        size = f"{len(data) / 2**20:.1f}"
        rows.append([kind, size, f"{grown / pixels:.1f}", f"{seconds / pixels * 1e6:.3f}"])
    allowed = [BYTES_PER_PIXEL, f"{SECONDS_PER_PIXEL * 1e6:.3f}"]
    return [*rows, ["allowed", "", *map(str, allowed)]]


def parent(data: bytes) -> int:  # noqa: ARG001 - of a file
    """The process that decoders come from."""
    return os.getppid()


def core_seconds(process: int) -> float:
    """Of a process, with its children that have ended; Linux only."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def cost() -> list[list[str]]:
    """Milliseconds of a core for one picture: decoded here, and in a decoder."""
    from benchmarks.decoders import parent  # noqa: PLC0415 - by a name that decoders know

    rows = []
    process = in_decoder(parent, b"")
    for form in ("PNG", "JPEG"):
        data = encoded(form)(512)
        began = time.process_time()
        for _ in range(_ROUNDS):
            decode(data, Limits())
        here = time.process_time() - began
        began = time.process_time() + core_seconds(process)
        for _ in range(_ROUNDS):
            in_decoder(decode, data, Limits())
        there = time.process_time() + core_seconds(process) - began
        rows.append([form, *(f"{1e3 * one / _ROUNDS:.1f}" for one in (here, there, there - here))])
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=3072)
    asked = parser.parse_args()
    print_table(["file", "MiB", "bytes per pixel", "µs per pixel"], per_pixel(asked.side))
    print_table(["512×512", "ms of a core", "in a decoder", "more"], cost())
