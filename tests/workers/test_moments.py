"""Moments answers: the gateway's own integers, wherever the samples were accumulated."""

import numpy as np
import pytest

from tests.fakes import Sink
from tests.live import serving
from tests.upscalers.remote.pictures import patiently
from tests.workers.fakes import SleepingEngine, noise
from trustscale_server.sampling.pipeline import Pipeline, measure
from trustscale_server.sigma.estimators import IndecisionSettings
from trustscale_server.sigma.moments import Moments, SampleMoments
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.registry import WorkerConfig
from trustscale_worker.service import create_app, fold, variance_in_torch

SCALE = 2
IMAGE = noise(14, 22)
SAMPLES = np.random.default_rng(1).integers(0, 256, (9, 28, 44, 3), np.uint8)


def test_torch_has_the_same_bits():
    pytest.importorskip("torch", reason="needs trustscale-worker")
    levels = np.arange(256, dtype=np.uint8)
    red, green = np.meshgrid(levels, levels, indexing="ij")
    colours = np.stack([np.stack([red, green, np.full_like(red, blue)], 2) for blue in levels[::5]])
    variance = variance_in_torch(colours, "cpu", block=50_000)
    assert fold(colours, "cpu").variance.tobytes() == variance.tobytes()


@pytest.mark.gpu
def test_a_gpu_has_the_same_bits():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert fold(SAMPLES, "cpu").packed().tobytes() == fold(SAMPLES, "cuda").packed().tobytes()


def test_there_and_back():
    """What is packed is unpacked; nothing else is taken for a spread."""
    spread = fold(SAMPLES, "cpu", mean=True)
    whole = Moments(SAMPLES.shape[1:3])
    for sample in SAMPLES:
        whole.add(sample)
    data = np.frombuffer(b"x" + spread.packed().tobytes(), np.uint8)[1:]  # nowhere aligned
    back = SampleMoments.unpacked(data, len(SAMPLES), SAMPLES.shape[1:3])
    assert back.variance.tobytes() == whole.pixel_variance().tobytes()
    assert np.array_equal(back.prediction, np.floor(SAMPLES.mean(0) + 0.5))
    with pytest.raises(ValueError, match="bytes"):
        SampleMoments.unpacked(data[:-1], 9, SAMPLES.shape[1:3])
    with pytest.raises(ValueError, match="variance"):
        SampleMoments.unpacked(np.full_like(data, 255), 9, SAMPLES.shape[1:3])
    with pytest.raises(ValueError, match="all samples"):
        whole.take(back)


@pytest.mark.parametrize(
    ("samples", "settings", "prediction", "accumulates"),
    [(8, {}, "first", True), (3, {"estimator": "pixel_variance"}, "mean", True),
     (4, {"estimator": "departure"}, "first", False), (2, {}, "first", False)],
)  # fmt: skip
async def test_the_same_measurement(samples, settings, prediction, accumulates):
    """σ and Ŷ have the same bits as moments and as samples; other estimators get samples."""
    engine = SleepingEngine(scale=SCALE)
    engine.distinct_samples = None
    app = create_app(engine)
    asked: list[bytes] = []

    async def noting(scope, receive, send):
        async def read():
            message = await receive()
            asked.append(message.get("body", b""))
            return message

        await app(scope, read if scope["type"] == "http" else receive, send)

    with serving(noting) as address:
        up = patiently(WorkerConfig(name="up", urls=(f"http://{address}",)), {})
        await up.check()
        pipeline = Pipeline(
            fingerprint=up.fingerprint,
            scale=SCALE,
            samples=samples,
            prediction=prediction,
            indecision=IndecisionSettings(**settings),
        )
        moments = await measure(up, Source(IMAGE), pipeline, 5)
        # Whoever looks at each sample gets the samples.
        plain = await measure(up, Source(IMAGE), pipeline, 5, sink=Sink(on_sample=lambda *_: None))
        await up.close()
    assert moments.sigma.tobytes() == plain.sigma.tobytes()
    assert np.array_equal(moments.prediction, plain.prediction)
    assert (b'"folded"' in b"".join(asked)) == accumulates
