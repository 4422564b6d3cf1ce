"""How many samples go through the networks together, and what happens when memory is short.

The estimates below only choose where to start. What keeps a worker alive is that running out
of memory halves the batch and tries again, down to a single sample.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from workers.errors import OutOfMemory
from workers.models.sinsr.config import SinSRConfig

__all__ = ["Batch", "decode_bytes", "is_out_of_memory", "plan", "predict_bytes"]

# Share of the free device memory that a first attempt may plan for. The rest is for the
# allocator's fragments and for convolution workspaces.
PLANNED_SHARE = 0.75


def decode_bytes(config: SinSRConfig, pixels: int, element: int) -> int:
    """Rough peak memory to decode one latent of `pixels` positions.

    The peak is the decoder's last resolution: the wide input of its first block, that input
    normalised, and half as much for the result.
    """
    codec = config.autoencoder.ddconfig
    widest = codec.ch * max(codec.ch_mult[:2])
    return int(pixels * config.scale**2 * widest * 2.5 * element)


def predict_bytes(config: SinSRConfig, pixels: int, element: int) -> int:
    """Rough peak memory of one noise prediction on a latent of `pixels` positions.

    All skip connections, and on top of them the widest point of the first level: the hidden
    layer of a Swin block's MLP twice (before and after its activation), or two joined maps
    and their normalised copy.
    """
    model = config.model
    skips = sum(
        model.model_channels * factor * (blocks + 1) / 4**level
        for level, (factor, blocks) in enumerate(
            zip(model.channel_mult, model.num_res_blocks, strict=True)
        )
    )
    hidden = (2 * model.mlp_ratio + 2) * model.swin_embed_dim
    joined = 2.5 * model.model_channels * (model.channel_mult[0] + max(model.channel_mult[:2]))
    return int(pixels * (skips + max(hidden, joined)) * element)


@dataclass
class Batch:
    """How many samples one network takes at a time; only ever shrinks."""

    size: int

    def run(self, count: int, step: Callable[[int, int], None]) -> None:
        """Call `step(first, last)` for consecutive slices that cover 0..count.

        A step that runs out of memory is repeated with half the batch, so a step must have
        no effect before its last line.

        Raises:
            OutOfMemory: even a single sample did not fit.
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


def plan(
    config: SinSRConfig, pixels: int, dtype: torch.dtype, device: torch.device
) -> tuple[Batch, Batch]:
    """Starting batches for the noise predictor and the decoder.

    On a GPU both fill the memory that is free now. On a CPU a larger batch makes neither
    network faster (measured: 4 predictions together take as long as 4 in turn), so samples
    go one by one: M of them peak where one does, and their bits cannot depend on the others.

    Args:
        config: the model's hyper-parameters.
        pixels: positions of one padded tile's latent.
        dtype: what the networks compute in.
        device: where.
    """
    if device.type == "cpu":
        return Batch(1), Batch(1)
    decoding = decode_bytes(config, pixels, dtype.itemsize)
    predicting = predict_bytes(config, pixels, dtype.itemsize)
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    budget = PLANNED_SHARE * (free + cached)
    return Batch(max(1, int(budget // predicting))), Batch(max(1, int(budget // decoding)))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error is a failed allocation, on a GPU or on the CPU."""
    # The CPU's allocator raises a plain RuntimeError; its message is all there is.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
