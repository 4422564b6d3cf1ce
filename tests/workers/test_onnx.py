"""ONNX files in a worker: the samples of the embedded upscaler."""

from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.pictures import patient
from tests.live import serving
from tests.workers.fakes import load, noise
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.tiles import TilePlan
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler
from trustscale_server.upscalers.remote.upstream import Upstream
from trustscale_server.upscalers.remote.worker import WorkerConfig, WorkerUpscaler
from trustscale_worker.errors import ClientGone, WeightsError
from trustscale_worker.models.engine import SampleRequest
from trustscale_worker.models.onnx import OnnxEngine
from trustscale_worker.service import create_worker_app

IMAGE = noise(20, 30)
SEEDS = np.array([0, 1, 29, 95, 96 * 7 + 29], np.int64)


@pytest.fixture(scope="module")
def path():
    return Path(
        str(
            resources.files("trustscale_server.upscalers.embedded").joinpath(
                "models", SHIPPED_MODELS["span-x4"].file
            )
        )
    )


@pytest.fixture(scope="module")
def engine():
    return load("onnx", threads=1)


class TestSamples:
    async def test_embedded_upscalers_samples(self, engine):
        embedded = EmbeddedUpscaler(threads=1)
        want = await embedded.generate(Source(IMAGE), SEEDS.tolist())
        assert np.array_equal(engine.samples(IMAGE, SEEDS), want)
        assert engine.fingerprint == embedded.fingerprint
        assert (engine.name, engine.scale, engine.distinct_samples) == ("spanx4_ch52", 4, 96)

    async def test_16_bits_over_the_wire(self, engine):
        deep = IMAGE.astype(np.uint16) * 257 + np.arange(20, dtype=np.uint16)[:, None, None]
        [want] = await EmbeddedUpscaler(threads=1).generate(Source(deep), [29])
        with serving(create_worker_app(engine)) as address:
            told = WorkerConfig(name="up", urls=[f"http://{address}"])
            upscaler = WorkerUpscaler(told, [Upstream(told, told.urls[0], {}, patient())])
            await upscaler.probe()
            assert upscaler.capabilities.takes_16_bit
            [sample] = await upscaler.generate(Source(deep), [29])
            await upscaler.close()
        assert sample.dtype == np.uint16
        assert len(np.unique(sample)) > 256
        assert np.array_equal(sample, want)

    async def test_tiles(self, path):
        """A file in tiles gives the samples and the fingerprint of the gateway with such tiles."""
        image = noise(50, 100, 1)
        engine = load("onnx", path, tile=60, halo=21, threads=1, name="mine")
        embedded = EmbeddedUpscaler("up", path, TilePlan(60, 21), threads=1)
        want = await embedded.generate(Source(image), [3])
        assert np.array_equal(engine.samples(image, np.array([3])), want)
        assert (engine.name, engine.fingerprint) == ("mine", embedded.fingerprint)

    def test_cancelled(self):
        counting = Counting()
        job = SampleRequest(IMAGE, SEEDS, lambda: counting.calls >= 2)
        with pytest.raises(ClientGone):
            counting.engine().samples_of([job])
        assert counting.calls == 2


class Counting:
    scale = 2

    on_cpu = True
    calls = 0

    def __call__(self, rgb):
        self.calls += 1
        return rgb.repeat(2, axis=0).repeat(2, axis=1)

    def engine(self):
        loaded = SimpleNamespace(model=self, plan=TilePlan(64, 4), scale=2, fingerprint="f")
        return OnnxEngine(loaded, "counting")


def test_no_model(tmp_path, path, data):
    file = tmp_path / "model.onnx"
    for content in (None, path.read_bytes()[:50_000], (data / "vq_tiny.pth").read_bytes()):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(WeightsError, match=r"^.*model\.onnx.*$"):
            load("onnx", file)
