"""Folded answers: the gateway's own integers, wherever the samples were folded."""

from __future__ import annotations

import numpy as np
import pytest

from app.conformal.folding import Folded, Sums
from app.conformal.indecision import Settings
from app.sampling.measure import measure
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Source
from app.upscalers.config import WorkerConfig
from app.upscalers.registry import build_upscaler
from tests.workers.conftest import serving
from tests.workers.fakes import SleepingEngine
from workers.folding import fold, fold_in_torch
from workers.service import create_app

SCALE = 2
IMAGE = np.random.default_rng(0).integers(0, 256, (14, 22, 3), np.uint8)
SAMPLES = np.random.default_rng(1).integers(0, 256, (9, 28, 44, 3), np.uint8)


class _Sampler(SleepingEngine):
    """Has as many samples as are wanted."""

    @property
    def distinct_samples(self):
        return None


def _equal(one: Sums, other: Sums) -> bool:
    return one.count == other.count and one.packed().tobytes() == other.packed().tobytes()


def test_torch_has_the_same_bits():
    """Every colour there is has the same integers in torch as in numpy."""
    pytest.importorskip("torch", reason="needs trustscale[worker]")
    levels = np.arange(256, dtype=np.uint8)
    red, green = np.meshgrid(levels, levels, indexing="ij")
    colours = np.stack([np.stack([red, green, np.full_like(red, blue)], 2) for blue in levels[::5]])
    assert _equal(fold(colours, "cpu"), fold_in_torch(colours, "cpu"))


@pytest.mark.gpu
def test_a_gpu_has_the_same_bits():
    """So they are on a GPU."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert _equal(fold(SAMPLES, "cpu"), fold(SAMPLES, "cuda"))


def test_parts_add_up():
    """Samples folded here, elsewhere, and elsewhere again are the samples folded in one place."""
    whole = Folded((28, 44))
    for sample in SAMPLES:
        whole.add(sample)
    parts = Folded((28, 44))
    parts.add(SAMPLES[0])
    for place in (slice(1, 2), slice(2, 8)):
        sums = fold(SAMPLES[place], "cpu")
        data = np.frombuffer(b"x" + sums.packed().tobytes(), np.uint8)[1:]  # nowhere aligned
        parts.merge(Sums.unpacked(data, sums.count, (28, 44)))
    parts.add(SAMPLES[8])
    assert _equal(whole.folded(SAMPLES[0]), parts.folded(SAMPLES[0]))
    with pytest.raises(ValueError, match="bytes of sums"):
        Sums.unpacked(data[:-1], 1, (28, 44))


@pytest.mark.parametrize(
    ("samples", "settings", "prediction", "folds"),
    [
        (8, {}, "first", True),
        (8, {"estimator": "residual"}, "first", True),
        (8, {}, "mean", False),
        (4, {}, "first", False),
    ],
)
async def test_the_same_measurement(samples, settings, prediction, folds):
    """σ and Ŷ have the same bits folded and unfolded; few samples and their mean travel as such."""
    app = create_app(_Sampler(scale=SCALE))
    asked: list[bytes] = []

    async def noting(scope, receive, send):
        async def read():
            message = await receive()
            asked.append(message.get("body", b""))
            return message

        await app(scope, read if scope["type"] == "http" else receive, send)

    with serving(noting) as address:
        up = build_upscaler(WorkerConfig(name="up", urls=(f"http://{address}",)), {})
        await up.check()
        pipeline = Pipeline(
            fingerprint=up.fingerprint,
            scale=SCALE,
            samples=samples,
            prediction=prediction,
            indecision=Settings(**settings),
        )
        folded = await measure(up, Source(IMAGE), pipeline, 5)
        # Whoever looks at each sample gets the samples.
        plain = await measure(up, Source(IMAGE), pipeline, 5, on_sample=lambda *_: None)
        await up.close()
    assert folded.sigma.tobytes() == plain.sigma.tobytes()
    assert np.array_equal(folded.prediction, plain.prediction)
    assert (b'"folded"' in b"".join(asked)) == folds


async def test_what_is_offered_and_refused(serve):
    """The metadata lists the output `folded`; it is one output, binary, and nothing else has it."""
    httpx = pytest.importorskip("httpx")
    with serve(create_app(SleepingEngine(scale=SCALE))) as address:
        async with httpx.AsyncClient(base_url=f"http://{address}/v2/models") as client:
            metadata = (await client.get("/sleeper")).json()
            assert [output["name"] for output in metadata["outputs"]] == ["samples", "folded"]
            inputs = [
                {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3]},
                {"name": "seeds", "datatype": "INT64", "shape": [1], "data": [1]},
            ]
            for outputs in ([{"name": "folded"}], [{"name": "samples"}, {"name": "folded"}]):
                answer = await client.post(
                    "/sleeper/infer", json={"inputs": inputs, "outputs": outputs}
                )
                assert answer.status_code == 400, answer.text
