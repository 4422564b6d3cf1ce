"""How many samples the networks are given at first, by rough estimates of what each takes."""

import torch

from workers.models.batching import PLANNED_SHARE, Batch
from workers.models.sinsr.config import SinSRConfig


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
    decoding = _decode_bytes(config, pixels, dtype.itemsize)
    predicting = _predict_bytes(config, pixels, dtype.itemsize)
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    budget = PLANNED_SHARE * (free + cached)
    return Batch(max(1, int(budget // predicting))), Batch(max(1, int(budget // decoding)))


def _decode_bytes(config: SinSRConfig, pixels: int, element: int) -> int:
    """Rough peak memory to decode one latent of `pixels` positions.

    The peak is the decoder's last resolution: the wide input of its first block, that input
    normalised, and half as much for the result.
    """
    codec = config.autoencoder.ddconfig
    widest = codec.ch * max(codec.ch_mult[:2])
    return int(pixels * config.scale**2 * widest * 2.5 * element)


def _predict_bytes(config: SinSRConfig, pixels: int, element: int) -> int:
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
