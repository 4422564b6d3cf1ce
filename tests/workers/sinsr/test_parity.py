"""Every stage against the numbers of an independent implementation, float32 on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from workers.models.sinsr import SinSR

TOLERANCE = 1e-4
CASES = ["a", "c"]


def _close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE)


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
        image = tiny.sample(numbers[f"{case}.lr01"], noise=numbers[f"{case}.noise"])
        got = (image * 255).round().to(torch.int16)
        off = (got - numbers[f"{case}.final_u8"].to(torch.int16)).abs()
        assert off.max() <= 1
        assert (off > 0).float().mean() < 1e-3

    def test_tiled_sample_with_the_references_noise(self, tiny, numbers):
        """Four overlapping tiles, merged, are the reference's image."""
        image = tiny.sample(numbers["tiled.lr01"], noise=numbers["tiled.noise"])
        _close(image[..., ::3, ::3], numbers["tiled.final01_every_3rd"])

    def test_either_noise_or_seeds(self, tiny, numbers):
        """Neither or both of noise and seeds is an error, and so is a wrong number of either."""
        lr, noise = numbers["a.lr01"], numbers["a.noise"]
        with pytest.raises(ValueError, match="either"):
            tiny.sample(lr)
        with pytest.raises(ValueError, match="either"):
            tiny.sample(lr, noise=noise, seeds=[1])
        with pytest.raises(ValueError, match="2 seeds for 1"):
            tiny.sample(lr, seeds=[1, 2])
        with pytest.raises(ValueError, match="2 noise tensors for 1"):
            tiny.sample(lr, noise=torch.stack([noise, noise]))

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_half_precision_stays_near(self, config, data, numbers, dtype):
        """In half precision nearly all codes and the mean error stay close to float32's."""
        half = SinSR.from_files(config, data / "unet_tiny.pth", data / "vq_tiny.pth", dtype=dtype)
        clean = half.denoise(numbers["a.unet_in_x"], numbers["a.lq_padded"])
        assert clean.dtype == torch.float32
        indices, _ = half.quantise(clean)
        same = (indices == numbers["a.code_indices"].long()).float().mean()
        assert same > 0.9
        image = half.decode(numbers["a.unet_out"])
        error = (image[..., ::3, ::3] - numbers["a.decoded_every_3rd"]).abs().mean()
        assert error < 0.05

    def test_plain_memory_layout(self, config, data, numbers):
        """Without channels-last the noise predictor gives the same numbers."""
        plain = SinSR.from_files(
            config, data / "unet_tiny.pth", data / "vq_tiny.pth", channels_last=False
        )
        clean = plain.denoise(numbers["c.unet_in_x"], numbers["c.lq_padded"])
        _close(clean, numbers["c.unet_out"])

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("case", CASES)
    def test_gpu(self, config, data, numbers, case):
        """On a GPU in float32, without TF32, every stage is the reference's."""
        gpu = SinSR.from_files(config, data / "unet_tiny.pth", data / "vq_tiny.pth", device="cuda")
        part = {
            name.partition(".")[2]: tensor.cuda()
            for name, tensor in numbers.items()
            if name.startswith(f"{case}.")
        }
        _close(gpu.encode(part["lq_padded"]), part["z_y"])
        _close(gpu.denoise(part["unet_in_x"], part["lq_padded"]), part["unet_out"])
        assert torch.equal(gpu.quantise(part["unet_out"])[0], part["code_indices"].long())
        _close(gpu.decode(part["unet_out"])[..., ::3, ::3], part["decoded_every_3rd"])
