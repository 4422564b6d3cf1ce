"""Every stage against the numbers of an independent implementation, float32 on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from workers.models.tiling import Box, Merger

CASES = ["a", "c"]


def _close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


def whole(model, lr, noise):
    """Images in [0, 1], float32[B, 3, 4h, 4w], from lr in [0, 1] and noise[tiles, B, 3, H, W]."""
    height, width = lr.shape[-2:]
    tiles = model.tiles(height, width) if len(noise) > 1 else [Box(0, height, 0, width)]
    merger = Merger(len(lr), 3, height, width, model.scale)
    for box, drawn in zip(tiles, noise, strict=True):
        lq, latent = model.prepare(lr, box)
        merger.add(box, model.finish(model.predict(lq, latent, drawn), box))
    return merger.result() * 0.5 + 0.5


def _agrees(model, numbers, case):
    """Latent, prediction, codes and image of a case are the reference's."""
    part = {
        name.partition(".")[2]: tensor.to(model.device)
        for name, tensor in numbers.items()
        if name.startswith(f"{case}.")
    }
    _close(model.encode(part["lq_padded"]), part["z_y"])
    _close(model.denoise(part["unet_in_x"], part["lq_padded"]), part["unet_out"])
    assert torch.equal(model.quantise(part["unet_out"])[0], part["code_indices"].long())
    # Before cropping and clamping.
    _close(model.decode(part["unet_out"])[..., ::3, ::3], part["decoded_every_3rd"])


@pytest.mark.parametrize("case", CASES)
def test_stages(tiny, numbers, case):
    """Every stage gives the reference's numbers; the latent is not quantised."""
    _agrees(tiny, numbers, case)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_gpu(load_tiny, numbers, case):
    """So it does on a GPU in float32, without TF32."""
    _agrees(load_tiny(device="cuda").model, numbers, case)


def test_enlargement_is_neither_antialiased_nor_clamped(numbers):
    """Bicubic enlargement overshoots [-1, 1] exactly as far as the reference's."""
    up = functional.interpolate(numbers["a.lq_padded"], scale_factor=4.0, mode="bicubic")
    _close(up[..., ::3, ::3], numbers["a.lq_up_every_3rd"])
    assert up.abs().max() > 1


def test_decoder_without_codes(tiny, numbers):
    """The decoder alone, fed a latent that is not quantised, gives the reference's image."""
    image = tiny.autoencoder.decode_codes(numbers["a.unet_out"])
    _close(image[..., ::3, ::3], numbers["a.decoded_no_quant_every_3rd"])


def test_inside_the_networks(tiny, numbers):
    """Time embedding, blocks of every resolution and global attention give the reference's maps."""
    names = [name for name in numbers if name.startswith("taps.")]
    assert len(names) == 7
    found, handles = {}, []
    for name in names:
        inner = name.removeprefix("taps.")
        network = tiny.autoencoder if inner.startswith("vq.") else tiny.unet
        module = network.get_submodule(inner.removeprefix("vq."))
        handles.append(
            module.register_forward_hook(lambda *given, name=name: found.update({name: given[-1]}))
        )
    tiny.denoise(numbers["a.unet_in_x"], numbers["a.lq_padded"])
    tiny.decode(numbers["a.unet_out"])
    for handle in handles:
        handle.remove()
    for name in names:
        want = numbers[name]
        _close(found[name][:, : want.shape[1]], want)


@pytest.mark.parametrize("case", CASES)
def test_sample_with_the_references_noise(tiny, numbers, case):
    """From image and noise to bytes: equal but for rounding ties in rare pixels."""
    image = whole(tiny, numbers[f"{case}.lr01"], numbers[f"{case}.noise"][None])
    got = (image * 255).round().to(torch.int16)
    off = (got - numbers[f"{case}.final_u8"].to(torch.int16)).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() < 1e-3


def test_tiled_sample_with_the_references_noise(tiny, numbers):
    """Four overlapping tiles, merged, are the reference's image."""
    image = whole(tiny, numbers["tiled.lr01"], numbers["tiled.noise"])
    _close(image[..., ::3, ::3], numbers["tiled.final01_every_3rd"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near(load_tiny, numbers, dtype):
    """In half precision nearly all codes and the mean error stay close to float32's."""
    half = load_tiny(dtype=dtype).model
    clean = half.denoise(numbers["a.unet_in_x"], numbers["a.lq_padded"])
    assert clean.dtype == torch.float32
    indices, _ = half.quantise(clean)
    assert (indices == numbers["a.code_indices"].long()).float().mean() > 0.9
    image = half.decode(numbers["a.unet_out"])
    assert (image[..., ::3, ::3] - numbers["a.decoded_every_3rd"]).abs().mean() < 0.05
