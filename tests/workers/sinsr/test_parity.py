"""Every stage against the numbers of an independent implementation, float32 on the CPU."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from workers.models.sinsr import engine

CASES = ["a", "c"]


def _close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


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


@pytest.fixture
def sample(load_tiny, config, numbers, monkeypatch):
    """The engine's own sample of a case, with the reference's noise: uint8[1, 3, 4h, 4w]."""

    def sample(case, tile):
        sampler = {**config["sampler"], "chop_size": tile}
        tiny_engine = load_tiny(config={**config, "sampler": sampler})
        drawn = iter(numbers[f"{case}.noise"].flatten(0, -4))  # in the order of the tiles
        noise = SimpleNamespace(draw=lambda *_: next(drawn))
        monkeypatch.setattr(engine, "Noise", lambda _: noise)
        lr = (numbers[f"{case}.lr01"][0] * 255).permute(1, 2, 0).to(torch.uint8)
        rows = tiny_engine.samples(lr.numpy(), np.zeros(1, np.int64))
        assert next(drawn, None) is None
        return torch.from_numpy(rows).permute(0, 3, 1, 2)

    return sample


@pytest.mark.parametrize("case", CASES)
def test_sample(sample, numbers, case):
    """From an image in one piece to bytes: equal but for rounding ties in rare pixels."""
    off = (sample(case, 96).int() - numbers[f"{case}.final_u8"].int()).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() < 1e-3


def test_tiled_sample(sample, numbers):
    """Four overlapping tiles, merged, are the reference's image, rounded."""
    off = sample("tiled", 64)[..., ::3, ::3] / 255 - numbers["tiled.final01_every_3rd"]
    assert off.abs().max() <= 0.5 / 255 + 1e-4


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
