"""The calibrations that come with the program."""

from __future__ import annotations

from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable

from trustscale_server.calibration import file
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.platform.errors import UpscalerUnavailable
from trustscale_server.upscalers.base import Upscaler

_SHIPPED = resources.files(__package__) / "shipped"


def shipped_names() -> list[str]:
    """Return the calibrations that come with the program, such as `span-x4-f32`."""
    return sorted(entry.name.removesuffix(file.SUFFIX) for entry in shipped_files())


def shipped_calibration(name: str = "span-x4-f32") -> Calibration:
    """Load one of `shipped_names()`."""
    return file.load((_SHIPPED / f"{name}{file.SUFFIX}").read_bytes())


def shipped_for_text(upscaler: Upscaler) -> Traversable | None:
    """Return the shipped calibration for text of an upscaler."""
    with suppress(UpscalerUnavailable):
        for entry in shipped_files(words=True):
            with entry.open("rb") as stream:
                if file.identity(stream)[1] == upscaler.fingerprint:
                    return entry
    return None


def shipped_for_data(entry: Traversable) -> list[bytes]:
    """Return the shipped calibration of the same model for data of 16 bits, if there is one."""
    beside = _SHIPPED / "data" / entry.name
    return [beside.read_bytes()] if beside.is_file() else []


def shipped_files(*, words: bool = False) -> list[Traversable]:
    """Return the files of shipped calibrations of colours, or for text."""
    entries = [entry for entry in _SHIPPED.iterdir() if entry.name.endswith(file.SUFFIX)]
    return [entry for entry in entries if entry.name.endswith(f"-text{file.SUFFIX}") == words]
