"""SinSR against the numbers of an independent implementation; many samples as each alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.workers.fakes import noise
from trustscale_worker.errors import ModelFailed
from trustscale_worker.models.engine import SampleRequest
from trustscale_worker.models.noise import Noise
from trustscale_worker.models.sinsr import engine

SEEDS = np.array([5, 405, 2**40 + 5, -3, 5], np.int64)


@pytest.fixture(scope="module")
def image():
    return noise(20, 28, 1)


@pytest.fixture(scope="module", params=["whole", "tiled"])
def sampler(request, config):
    """A configuration that takes the image in one piece or in two tiles."""
    tiles = {"chop_size": 24, "chop_stride": 16} if request.param == "tiled" else {}
    return {**config, "sampler": {**config["sampler"], **tiles}}


@pytest.fixture(scope="module")
def made(tiny_engine, image):
    return tiny_engine.samples(image, SEEDS)


def _nearly_equal(one, two):
    off = np.abs(one.astype(int) - two)
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


class TestNoise:
    def test_seed_is_used_as_given(self, numbers):
        assert torch.equal(Noise(405).draw(3, 32, 32), numbers["a.noise"][0])

    def test_all_64_bits_count(self):
        """Seeds that differ only above their low 32 bits, or in sign, give other noise."""
        seeds = [7, 7 + 2**32, 7 + 2**33, 7 - 2**32, 7 - 2**63, -7, 2**63 - 1]
        drawn = {tuple(Noise(seed).draw(4).tolist()) for seed in seeds}
        assert len(drawn) == len(seeds)


class TestSamples:
    def test_company_and_order_do_not_matter(self, load_tiny, sampler, image):
        engine = load_tiny(config=sampler)
        rows = engine.samples(image, SEEDS[[0, 1, 2, 0]])
        assert np.array_equal(engine.samples(image, SEEDS[2:0:-1].copy()), rows[2:0:-1])
        assert np.array_equal(engine.samples(image, SEEDS[1:2]), rows[1:2])
        assert np.array_equal(rows[0], rows[3])
        assert not np.array_equal(rows[0], rows[1])

    def test_batches_and_images_agree(self, load_tiny, tiny_engine, image, made):
        other = image[::-1].copy()
        jobs = [SampleRequest(image, SEEDS[:4]), SampleRequest(other, SEEDS[:1])]
        one, two = load_tiny(batch=3).samples_of(jobs)
        _nearly_equal(one, made[:4])
        _nearly_equal(two, tiny_engine.samples(other, SEEDS[:1]))

    @pytest.mark.parametrize("stage", ["denoise", "decode"])
    def test_no_numbers(self, tiny_engine, tiny, image, monkeypatch, stage):
        """What overflows in a network is an error, and neither black nor a code like any other."""
        whole = getattr(tiny, stage)
        monkeypatch.setattr(tiny, stage, lambda *given: whole(*given) * torch.inf)
        with pytest.raises(ModelFailed, match="not finite"):
            tiny_engine.samples(image, SEEDS[:1])


def test_a_job_that_is_given_up_takes_no_neighbour_along(tiny_engine, image, made):
    gone, kept = SampleRequest(image, SEEDS, lambda: True), SampleRequest(image, SEEDS[:1])
    assert np.array_equal(tiny_engine.samples_of([gone, kept])[1], made[:1])
    assert np.array_equal(tiny_engine.samples_of([kept, gone])[0], made[:1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_batches_by_free_memory(load_tiny, image, made, dtype):
    """On a GPU the batch chosen from free memory gives nearly the CPU's samples."""
    off = np.abs(load_tiny(device="cuda", dtype=dtype).samples(image, SEEDS).astype(int) - made)
    assert off.mean() < (0.05 if dtype == "float32" else 4)


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
    _agrees(load_tiny(device="cuda").model, numbers, case)


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
    off = sample("tiled", 64)[..., ::3, ::3] / 255 - numbers["tiled.final01_every_3rd"]
    assert off.abs().max() <= 0.5 / 255 + 1e-4
