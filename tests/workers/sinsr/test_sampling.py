"""Many samples together: the same as each alone, whatever happens around them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from tests.workers.fakes import noise
from workers.errors import ClientGone, ModelFailed, OutOfMemory
from workers.models.engine import SampleRequest
from workers.models.noise import Noise
from workers.models.sinsr.config import SinSRConfig
from workers.models.sinsr.engine import SinSREngine
from workers.models.sinsr.model import SinSR

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
    """The samples of one call for all seeds."""
    return tiny_engine.samples(image, SEEDS)


def _nearly_equal(one, two):
    off = np.abs(one.astype(int) - two)
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


class TestNoise:
    def test_seed_is_used_as_given(self, numbers):
        """Seed 405 is PyTorch's generator seeded with 405: the reference's noise."""
        assert torch.equal(Noise(405).draw(3, 32, 32), numbers["a.noise"][0])

    def test_all_64_bits_count(self):
        """Seeds that differ only above their low 32 bits, or in sign, give other noise."""
        seeds = [7, 7 + 2**32, 7 + 2**33, 7 - 2**32, 7 - 2**63, -7, 2**63 - 1]
        drawn = {tuple(Noise(seed).draw(4).tolist()) for seed in seeds}
        assert len(drawn) == len(seeds)

    @pytest.mark.parametrize("seed", [3, 2**40])
    def test_standard_normal(self, seed):
        """Narrow and wide seeds draw standard normal numbers, and go on: no tile repeats them."""
        noise = Noise(seed)
        drawn = noise.draw(100_000)
        assert drawn.dtype == torch.float32
        assert abs(float(drawn.mean())) < 0.02
        assert abs(float(drawn.std()) - 1) < 0.02
        assert not torch.equal(noise.draw(8), drawn[:8])


class TestSamples:
    def test_company_and_order_do_not_matter(self, load_tiny, sampler, image):
        """A seed gives the same bytes alone, in any order and twice in one call."""
        engine = load_tiny(config=sampler)
        rows = engine.samples(image, SEEDS[[0, 1, 2, 0]])
        assert np.array_equal(engine.samples(image, SEEDS[2:0:-1].copy()), rows[2:0:-1])
        assert np.array_equal(engine.samples(image, SEEDS[1:2]), rows[1:2])
        assert np.array_equal(rows[0], rows[3])
        assert not np.array_equal(rows[0], rows[1])

    def test_batches_and_images_agree(self, load_tiny, tiny_engine, image, made):
        """Several images in one call, in batches of three, give the samples of separate calls."""
        other = image[::-1].copy()
        jobs = [SampleRequest(image, SEEDS[:4]), SampleRequest(other, SEEDS[:1])]
        one, two = load_tiny(batch=3).samples_of(jobs)
        _nearly_equal(one, made[:4])
        _nearly_equal(two, tiny_engine.samples(other, SEEDS[:1]))

    def test_sizes_must_agree(self, tiny_engine, image):
        """Images of different sizes in one call are refused."""
        jobs = [SampleRequest(image, SEEDS), SampleRequest(image[1:], SEEDS)]
        with pytest.raises(ValueError, match="one size"):
            tiny_engine.samples_of(jobs)

    @pytest.mark.parametrize("size", [(1, 1), (1, 33), (7, 5), (32, 16)])
    def test_small_images(self, tiny_engine, size):
        """Images below half the padding, for which the original fails, have samples too."""
        pixels = np.full((*size, 3), 90, np.uint8)
        assert tiny_engine.samples(pixels, SEEDS[:1]).shape == (1, 4 * size[0], 4 * size[1], 3)

    def test_encoding_is_shared(self, tiny_engine, tiny, image, monkeypatch):
        """However many samples, each tile is encoded once."""
        calls = []
        encode = tiny.encode
        monkeypatch.setattr(tiny, "encode", lambda lr: calls.append(1) or encode(lr))
        tiny_engine.samples(image, SEEDS[:2])
        assert len(calls) == 1

    @pytest.mark.parametrize("stage", ["denoise", "decode"])
    def test_no_numbers(self, tiny_engine, tiny, image, monkeypatch, stage):
        """What overflows in a network is an error, and neither black nor a code like any other."""
        whole = getattr(tiny, stage)
        monkeypatch.setattr(tiny, stage, lambda *given: whole(*given) * torch.inf)
        with pytest.raises(ModelFailed, match="not finite"):
            tiny_engine.samples(image, SEEDS[:1])


class TestOutOfMemory:
    def test_batch_is_halved(self, load_tiny, sampler, image, monkeypatch):
        """Running out of memory halves the batch, and every sample still comes out."""
        engine, seen = load_tiny(config=sampler, batch=3), set()
        for name in ("denoise", "decode"):
            original = getattr(engine.model, name)

            def limited(first, *rest, original=original):
                seen.add(len(first))
                if len(first) > 1:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return original(first, *rest)

            monkeypatch.setattr(engine.model, name, limited)
        rows = engine.samples(image, SEEDS[:3])
        assert seen == {3, 1}
        _nearly_equal(rows, load_tiny(config=sampler).samples(image, SEEDS[:3]))

    @pytest.mark.parametrize(
        ("stage", "error", "seen", "words"),
        [
            ("denoise", torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory, "not even one"),
            ("encode", RuntimeError("DefaultCPUAllocator: no"), OutOfMemory, "not even one"),
            ("decode", RuntimeError("a bug"), RuntimeError, "a bug"),
        ],
    )
    def test_not_even_one(self, tiny_engine, tiny, image, monkeypatch, stage, error, seen, words):
        """When one sample does not fit, at any stage, the error says so; others stay as they are.

        The model stays usable.
        """

        def fails(*_):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(tiny, stage, fails)
            with pytest.raises(seen, match=words):
                tiny_engine.samples(image, SEEDS)
        assert len(tiny_engine.samples(image, SEEDS[:1])) == 1


class TestCancellation:
    def test_stops_between_evaluations(self, tiny_engine, tiny, image, monkeypatch):
        """When nobody waits any more, at most the running evaluation is finished."""
        calls = []
        denoise = tiny.denoise
        monkeypatch.setattr(tiny, "denoise", lambda *args: calls.append(1) or denoise(*args))
        with pytest.raises(ClientGone):
            tiny_engine.samples_of([SampleRequest(image, SEEDS, lambda: len(calls) >= 2)])
        assert len(calls) == 2

    def test_others_are_finished(self, tiny_engine, image, made):
        """A job that is given up does not take its neighbours along, before or after it."""
        gone, kept = SampleRequest(image, SEEDS, lambda: True), SampleRequest(image, SEEDS[:1])
        assert np.array_equal(tiny_engine.samples_of([gone, kept])[1], made[:1])
        assert np.array_equal(tiny_engine.samples_of([kept, gone])[0], made[:1])


@pytest.mark.slow
def test_whole_networks_are_traced(config, image, monkeypatch):
    """Each network is one graph to the compiler, and the graphs give the same bytes.

    Only the C++ or CUDA code that the compiler writes of them is left out: it takes minutes.
    Each kind of layer occurs once.
    """
    small = SinSRConfig.model_validate(
        {
            **config,
            "model": {**config["model"], "channel_mult": [1, 1], "num_res_blocks": [1, 1]},
            "autoencoder": {
                **config["autoencoder"],
                "ddconfig": {**config["autoencoder"]["ddconfig"], "num_res_blocks": 1},
            },
        }
    )
    traced = functools.partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    plain, compiled = (
        SinSREngine(SinSR(small, *_random_networks(small), compiled=compiled))
        for compiled in (False, True)
    )
    want = plain.samples(image, SEEDS[:1])
    assert np.array_equal(compiled.samples(image, SEEDS[:1]), want)


def _random_networks(config):
    random = torch.Generator().manual_seed(0)
    networks = SinSR.plan_networks(config)
    for network in networks:
        state = {
            name: torch.randn(weight.shape, generator=random).mul_(0.1)
            for name, weight in network.named_parameters()
        }
        network.load_state_dict(state, assign=True)
    return networks


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_batches_by_free_memory(load_tiny, image, made, dtype):
    """On a GPU the batch chosen from free memory gives nearly the CPU's samples."""
    off = np.abs(load_tiny(device="cuda", dtype=dtype).samples(image, SEEDS).astype(int) - made)
    assert off.mean() < (0.05 if dtype == "float32" else 4)
