"""Many samples together: the same as each alone, whatever happens around them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from tests.workers.sinsr.test_parity import whole
from workers.errors import ClientGone, OutOfMemory
from workers.models.engine import SampleRequest
from workers.models.noise import Noise

SEEDS = np.array([5, 405, 2**40 + 5, -3, 5], np.int64)

# The large one is tiled, which takes seconds.
WHICH = ["image", pytest.param("large", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (20, 45, 3), np.uint8)


@pytest.fixture(scope="module")
def large():
    return np.random.default_rng(2).integers(0, 256, (20, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def made(tiny_engine, image, large):
    """The samples of one call for all seeds, by the name of the image."""
    given = {"image": image, "large": large}
    return functools.cache(lambda which: tiny_engine.samples(given[which], SEEDS))


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
        """Narrow and wide seeds both draw standard normal numbers."""
        drawn = Noise(seed).draw(100_000)
        assert drawn.dtype == torch.float32
        assert abs(float(drawn.mean())) < 0.02
        assert abs(float(drawn.std()) - 1) < 0.02

    def test_tiles_continue_the_stream(self):
        """Successive draws differ: two tiles never get the same noise."""
        noise = Noise(1)
        assert not torch.equal(noise.draw(8), noise.draw(8))


class TestSamples:
    def test_agrees_with_the_stages(self, tiny, image, made):
        """The rows are what the stages give for the noise of each seed."""
        rows = made("image")
        assert rows.shape == (5, 80, 180, 3)
        assert rows.dtype == np.uint8
        lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        for row, seed in zip(rows[1:3], SEEDS[1:3], strict=True):
            noise = Noise(int(seed)).draw(1, 1, 3, 32, 64)
            alone = (whole(tiny, lr, noise)[0] * 255).round().to(torch.uint8)
            assert np.array_equal(row, alone.permute(1, 2, 0).numpy())

    @pytest.mark.parametrize("which", WHICH)
    def test_company_and_order_do_not_matter(self, tiny_engine, request, which, made):
        """A seed gives the same bytes alone, in any order and twice in one call."""
        given, rows = request.getfixturevalue(which), made(which)
        assert np.array_equal(tiny_engine.samples(given, SEEDS[2:0:-1].copy()), rows[2:0:-1])
        assert np.array_equal(tiny_engine.samples(given, SEEDS[1:2]), rows[1:2])
        assert np.array_equal(rows[0], rows[4])
        assert not np.array_equal(rows[0], rows[1])

    def test_batches_agree(self, load_tiny, image, made):
        """Batches of three give the samples of batches of one, but for rounding."""
        batched = load_tiny(batch=3)
        seeds = SEEDS[:4]
        off = batched.samples(image, seeds).astype(int) - made("image")[:4]
        assert np.abs(off).max() <= 1
        assert (off != 0).mean() < 1e-3

    def test_several_images_share_a_call(self, load_tiny, tiny_engine, image, made):
        """Samples of several images in one call are those of separate calls."""
        other = image[::-1].copy()
        batched = load_tiny(batch=8)
        got = batched.samples_of([SampleRequest(image, SEEDS[:1]), SampleRequest(other, SEEDS[:2])])
        for rows, want in zip(
            got, (made("image")[:1], tiny_engine.samples(other, SEEDS[:2])), strict=True
        ):
            off = np.abs(rows.astype(int) - want)
            assert off.max() <= 1
            assert (off > 0).mean() < 1e-3

    def test_sizes_must_agree(self, tiny_engine, image, large):
        """Images of different sizes in one call are refused."""
        with pytest.raises(ValueError, match="one size"):
            tiny_engine.samples_of([SampleRequest(image, SEEDS), SampleRequest(large, SEEDS)])

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


class TestOutOfMemory:
    def _limited(self, model, most, monkeypatch):
        """Let both networks fail for batches above `most`."""
        seen = []
        for name in ("denoise", "decode"):
            original = getattr(model, name)

            def limited(first, *rest, original=original, name=name):
                seen.append((name, len(first)))
                if len(first) > most:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return original(first, *rest)

            monkeypatch.setattr(model, name, limited)
        return seen

    @pytest.mark.parametrize("which", WHICH)
    def test_batch_is_halved(self, load_tiny, request, which, made, monkeypatch):
        """Running out of memory halves the batch, and every sample still comes out."""
        given = request.getfixturevalue(which)
        model = load_tiny(batch=5)
        seen = self._limited(model.model, 2, monkeypatch)
        rows = model.samples(given, SEEDS)
        assert {size for _, size in seen} == {5, 2, 1}
        off = np.abs(rows.astype(int) - made(which))
        assert off.max() <= 1
        assert (off > 0).mean() < 1e-3

    def test_not_even_one(self, load_tiny, image, monkeypatch):
        """When one sample does not fit, the error says so and the model stays usable."""
        model = load_tiny(batch=2)
        with monkeypatch.context() as patch:
            self._limited(model.model, 0, patch)
            with pytest.raises(OutOfMemory, match="not even one"):
                model.samples(image, SEEDS)
        assert model.samples(image, SEEDS[:1]).shape[0] == 1

    def test_not_even_the_encoding(self, tiny_engine, tiny, image, monkeypatch):
        """Running out of memory while encoding is named too."""

        def full(*_):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        monkeypatch.setattr(tiny, "encode", full)
        with pytest.raises(OutOfMemory, match="not even one"):
            tiny_engine.samples(image, SEEDS)

    def test_other_errors_pass(self, load_tiny, image, monkeypatch):
        """An error that is no lack of memory is not taken for one."""
        model = load_tiny()

        def broken(*_):
            raise RuntimeError("a bug")

        monkeypatch.setattr(model.model, "decode", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            model.samples(image, SEEDS)


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
        want = made("image")[:1]
        assert np.array_equal(tiny_engine.samples_of([gone, kept])[1], want)
        assert np.array_equal(tiny_engine.samples_of([kept, gone])[0], want)


class TestCompiled:
    @pytest.mark.slow
    def test_whole_networks_are_traced(self, load_tiny, image, made, monkeypatch):
        """Each network is one graph to the compiler, and the graphs give the same bytes.

        Only the C++ or CUDA code that the compiler writes of them is left out: it takes minutes.
        """
        whole = functools.partial(torch.compile, backend="eager", fullgraph=True)
        monkeypatch.setattr(torch, "compile", whole)
        traced = load_tiny(compiled=True)
        assert np.array_equal(traced.samples(image, SEEDS[:1]), made("image")[:1])


class TestGpuBatches:
    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_batches_by_free_memory(self, load_tiny, image, tiny_engine, dtype):
        """On a GPU the batch chosen from free memory gives nearly the CPU's samples."""
        model = load_tiny(device="cuda", dtype=dtype)
        off = np.abs(model.samples(image, SEEDS).astype(int) - tiny_engine.samples(image, SEEDS))
        assert off.mean() < (0.05 if dtype == "float32" else 4)
