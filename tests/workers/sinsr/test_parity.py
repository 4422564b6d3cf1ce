"""Every stage against the numbers of an independent implementation, float32 on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from workers.models.tiling import Box, Merger

TOLERANCE = 1e-4
CASES = ["a", "c"]


def _close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE)


def whole(model, lr, noise):
    """Images in [0, 1], float32[B, 3, 4h, 4w], from lr in [0, 1] and noise[tiles, B, 3, H, W]."""
    height, width = lr.shape[-2:]
    tiles = model.tiles(height, width) if len(noise) > 1 else [Box(0, height, 0, width)]
    merger = Merger(len(lr), 3, height, width, model.scale)
    for box, drawn in zip(tiles, noise, strict=True):
        lq, latent = model.prepare(lr, box)
        merger.add(box, model.finish(model.predict(lq, latent, drawn), box))
    return merger.result() * 0.5 + 0.5


def _taps(network, names, run):
    """Outputs of the named modules while `run` runs."""
    found = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: found.__setitem__(name, output)
        )
        for name in names
    ]
    run()
    for handle in handles:
        handle.remove()
    return found


class TestStages:
    @pytest.mark.parametrize("case", CASES)
    def test_encoding(self, tiny, numbers, case):
        """The latent of the padded image is the reference's, not quantised."""
        _close(tiny.encode(numbers[f"{case}.lq_padded"]), numbers[f"{case}.z_y"])

    def test_enlargement_is_neither_antialiased_nor_clamped(self, numbers):
        """Bicubic enlargement overshoots [-1, 1] exactly as far as the reference's."""
        up = functional.interpolate(numbers["a.lq_padded"], scale_factor=4.0, mode="bicubic")
        _close(up[..., ::3, ::3], numbers["a.lq_up_every_3rd"])
        assert up.abs().max() > 1

    @pytest.mark.parametrize("case", CASES)
    def test_noise_prediction(self, tiny, numbers, case):
        """One evaluation of the noise predictor gives the reference's clean latent."""
        clean = tiny.denoise(numbers[f"{case}.unet_in_x"], numbers[f"{case}.lq_padded"])
        _close(clean, numbers[f"{case}.unet_out"])

    @pytest.mark.parametrize("case", CASES)
    def test_codes(self, tiny, numbers, case):
        """Every latent pixel snaps to the reference's code."""
        indices, _ = tiny.quantise(numbers[f"{case}.unet_out"])
        assert torch.equal(indices, numbers[f"{case}.code_indices"].long())

    @pytest.mark.parametrize("case", CASES)
    def test_decoding(self, tiny, numbers, case):
        """The decoded image is the reference's before cropping and clamping."""
        image = tiny.decode(numbers[f"{case}.unet_out"])
        _close(image[..., ::3, ::3], numbers[f"{case}.decoded_every_3rd"])

    def test_decoder_without_codes(self, tiny, numbers):
        """The decoder alone, fed a latent that is not quantised, gives the reference's image."""
        image = tiny.autoencoder.decode_codes(numbers["a.unet_out"])
        _close(image[..., ::3, ::3], numbers["a.decoded_no_quant_every_3rd"])


class TestTaps:
    def test_inside_the_noise_predictor(self, tiny, numbers):
        """Time embedding and blocks of every resolution give the reference's maps."""
        names = ["time_embed", "input_blocks.1", "input_blocks.5", "input_blocks.6"]
        names += ["middle_block", "output_blocks.0"]
        found = _taps(
            tiny.unet,
            names,
            lambda: tiny.denoise(numbers["a.unet_in_x"], numbers["a.lq_padded"]),
        )
        for name in names:
            want = numbers[f"taps.{name}"]
            _close(found[name][:, : want.shape[1]], want)

    def test_attention_of_the_decoder(self, tiny, numbers):
        """The decoder's global attention gives the reference's map."""
        name = "decoder.mid.attn_1"
        found = _taps(tiny.autoencoder, [name], lambda: tiny.decode(numbers["a.unet_out"]))
        want = numbers[f"taps.vq.{name}"]
        _close(found[name][:, : want.shape[1]], want)


class TestWhole:
    @pytest.mark.parametrize("case", CASES)
    def test_sample_with_the_references_noise(self, tiny, numbers, case):
        """From image and noise to bytes: equal but for rounding ties in rare pixels."""
        image = whole(tiny, numbers[f"{case}.lr01"], numbers[f"{case}.noise"][None])
        got = (image * 255).round().to(torch.int16)
        off = (got - numbers[f"{case}.final_u8"].to(torch.int16)).abs()
        assert off.max() <= 1
        assert (off > 0).float().mean() < 1e-3

    def test_tiled_sample_with_the_references_noise(self, tiny, numbers):
        """Four overlapping tiles, merged, are the reference's image."""
        image = whole(tiny, numbers["tiled.lr01"], numbers["tiled.noise"])
        _close(image[..., ::3, ::3], numbers["tiled.final01_every_3rd"])

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_half_precision_stays_near(self, load_tiny, numbers, dtype):
        """In half precision nearly all codes and the mean error stay close to float32's."""
        half = load_tiny(dtype=dtype).model
        clean = half.denoise(numbers["a.unet_in_x"], numbers["a.lq_padded"])
        assert clean.dtype == torch.float32
        indices, _ = half.quantise(clean)
        same = (indices == numbers["a.code_indices"].long()).float().mean()
        assert same > 0.9
        image = half.decode(numbers["a.unet_out"])
        error = (image[..., ::3, ::3] - numbers["a.decoded_every_3rd"]).abs().mean()
        assert error < 0.05

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("case", CASES)
    def test_gpu(self, load_tiny, numbers, case):
        """On a GPU in float32, without TF32, every stage is the reference's."""
        gpu = load_tiny(device="cuda").model
        part = {
            name.partition(".")[2]: tensor.cuda()
            for name, tensor in numbers.items()
            if name.startswith(f"{case}.")
        }
        _close(gpu.encode(part["lq_padded"]), part["z_y"])
        _close(gpu.denoise(part["unet_in_x"], part["lq_padded"]), part["unet_out"])
        assert torch.equal(gpu.quantise(part["unet_out"])[0], part["code_indices"].long())
        _close(gpu.decode(part["unet_out"])[..., ::3, ::3], part["decoded_every_3rd"])
