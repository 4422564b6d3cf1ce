"""The device that a model runs on."""

import torch

from workers.errors import ConfigError
from workers.models.engine import DeviceMemory, host_memory

# Samples per call on a GPU, which `batching` splits by free memory.
_GPU_TOGETHER = 64

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def parse_device(name: str | torch.device) -> torch.device:
    """The device named "cpu", "cuda" or "cuda:N". Raises ConfigError."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r}: expected cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name}: expected cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name}: no such GPU here (found {torch.cuda.device_count()})")
    return device


def parse_dtype(name: str) -> torch.dtype:
    """The precision of that name. Raises ConfigError."""
    if name not in DTYPES:
        raise ConfigError(f"dtype {name!r}: expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def device_memory(device: torch.device) -> DeviceMemory:
    """Memory of a GPU, or of the machine."""
    if device.type != "cuda":
        return host_memory()
    free, total = torch.cuda.mem_get_info(device)
    return DeviceMemory(str(device), total - free, total)


def gainful_batch(device: torch.device) -> int:
    """Up to how many samples are cheaper in one call than in several."""
    return _GPU_TOGETHER if device.type == "cuda" else 1


def use_threads(count: int | None) -> None:
    """Set the threads on a CPU; None: torch's choice."""
    if count is not None:
        torch.set_num_threads(count)
