"""The device that a model runs on, and how many evaluations run together there."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch

from trustscale_server.platform.errors import ConfigError
from trustscale_worker.errors import OutOfMemory
from trustscale_worker.models.engine import DeviceMemory, host_memory

# Share of the free device memory that a first attempt plans for; allocators leave fragments, and
# convolutions need workspaces.
_PLANNED_SHARE = 0.75

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def parse_device(name: str | torch.device) -> torch.device:
    """Return the device named "cpu", "cuda" or "cuda:N". Raises ConfigError."""
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
    """Return the precision of that name. Raises ConfigError."""
    if name not in _DTYPES:
        raise ConfigError(f"dtype {name!r}: expected one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def device_memory(device: torch.device) -> DeviceMemory:
    """Return the memory of a GPU, or of the machine."""
    if device.type != "cuda":
        return host_memory()
    free, total = torch.cuda.mem_get_info(device)
    return DeviceMemory(str(device), total - free, total)


def gainful_batch(device: torch.device) -> int:
    """Return how many samples are at most cheaper in one call than in several."""
    return 64 if device.type == "cuda" else 1  # `BatchSizes` splits them by free memory


def use_threads(count: int | None) -> None:
    """Set the threads on a CPU; None is torch's choice."""
    if count is not None:
        torch.set_num_threads(count)


@dataclass
class BatchSize:
    """The number of evaluations in a batch, which only shrinks."""

    size: int

    def run(self, count: int, step: Callable[[int, int], None]) -> None:
        """Call `step(first, last)` for consecutive slices that cover 0..count.

        A step that runs out of memory is repeated with half the batch, so only its last line may
        have an effect.

        Raises OutOfMemory: not even one sample fits.
        """
        first = 0
        while first < count:
            last = min(first + self.size, count)
            try:
                step(first, last)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if last - first == 1:
                    raise OutOfMemory(
                        "not even one sample of this image fits into memory; use a smaller "
                        "image, or smaller tiles (sinsr: sampler.chop_size, others: --tile)"
                    ) from error
                self.size = (last - first) // 2
            else:
                first = last
                continue
            # Outside the handler: until it ends, the error keeps the failed step's tensors.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


class BatchSizes:
    """The batch size of every kind of evaluation, such as a network with the size of its input.

    `size` is that of all kinds; None, on a GPU only: as many evaluations as fit into the memory
    that is free when a kind first runs.
    """

    def __init__(self, device: torch.device, size: int | None) -> None:
        self._device = device
        self._size = size
        self._known: dict[Hashable, BatchSize] = {}

    def of_kind(self, kind: Hashable, alone: Callable[[], object]) -> BatchSize:
        if kind not in self._known:
            self._known[kind] = BatchSize(self._size or self._fitting(alone))
        return self._known[kind]

    def _fitting(self, alone: Callable[[], object]) -> int:
        device = self._device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)

        def measured(*_: int) -> None:
            alone()

        BatchSize(1).run(1, measured)
        used = torch.cuda.max_memory_allocated(device) - before
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, int(_PLANNED_SHARE * free / max(used, 1)))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether the error is a failed allocation, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
