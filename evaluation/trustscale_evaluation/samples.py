"""The samples of an upload, kept on disk.

The M samples come from the cache, or are generated once and stored: sample 0 as differences of
neighbours, the others as differences from sample 0 (modulo 2^bits), compressed with Zstandard: a
fifth of the size, lossless. A damaged file counts as absent.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trustscale_server.pixels.npy import read_arrays
from trustscale_server.platform.errors import ConfigError
from trustscale_server.stores.files import replace_file
from trustscale_server.upscalers.base import RGB


@dataclass(frozen=True, slots=True)
class Samples:
    """The M samples of one input, [M, H, W, 3]; seconds: of generation, 0 if unknown."""

    images: RGB
    seconds: float = 0.0


class SampleCache:
    """A folder of samples; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error.strerror}.") from error

    def path(self, fingerprint: str, x_digest: str, seed: int, count: int) -> Path:
        """Return the file of the samples of one input, whose name has all that changes them."""
        identity = hashlib.sha256(f"{fingerprint}\n{x_digest}".encode()).hexdigest()[:40]
        return self.folder / f"{identity}-{seed}-{count}.samples"

    def get(self, path: Path) -> Samples | None:
        """Return the samples; None if there are none or the file is damaged."""
        try:
            return unpacked_samples(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def put(self, path: Path, samples: Samples) -> None:
        """Store samples."""
        replace_file(path, packed_samples(samples))


def packed_samples(samples: Samples) -> bytes:
    """Return the file of the samples."""
    import zstandard  # noqa: PLC0415 - an optional dependency, imported where it is used

    differences = samples.images.copy()
    differences[1:] -= samples.images[0]
    differences[0, :, 1:] -= samples.images[0, :, :-1]
    out = io.BytesIO()
    np.savez(out, differences=differences, seconds=samples.seconds)
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(out.getbuffer())


def unpacked_samples(data: bytes) -> Samples:
    """Return the samples of a file. Raises ValueError if it is damaged."""
    import zstandard  # noqa: PLC0415 - as above

    try:
        raw = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError("the file is damaged") from error
    arrays = read_arrays(raw)
    images, seconds = arrays["differences"], float(arrays["seconds"])
    first = images[0]
    np.cumsum(first, axis=1, dtype=first.dtype, out=first)
    images[1:] += first
    return Samples(images, seconds)
