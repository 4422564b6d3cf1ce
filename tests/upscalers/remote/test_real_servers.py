"""Against servers that somebody else wrote: Cog, BentoML, Gradio, Triton, MLServer."""

from __future__ import annotations

import asyncio
import time

import httpx
import numpy as np
import pytest

from app.errors import UpscalerFailed, UpscalerRejected, UpscalerUnavailable
from app.sampling.draw import draw
from app.upscalers.probe import probe
from app.upscalers.remote.errors import Busy, GenerationFailed, Misconfigured, ProtocolError
from tests.upscalers.remote.pictures import adapter, resilient, sample

pytestmark = [pytest.mark.servers, pytest.mark.slow]


async def reference(up, source, seeds):
    """Draw through the fan-out; every sample must be the one of its seed."""
    got = {}
    await draw(up, source, seeds, on_sample=lambda i, image: got.update({i: image}))
    for index, seed in enumerate(seeds):
        # Servers have another Pillow, whose bicubic may differ in the last bit.
        difference = got[index].astype(int) - sample(source.rgb, seed)
        assert np.abs(difference).max() <= 1


class TestCog:
    @pytest.fixture
    def build(self, cog, opened):
        return opened(resilient, kind="cog", url=cog.url, scale=2)

    async def health(self, cog):
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{cog.url}/health-check")).json()["status"]

    async def test_samples(self, build, source):
        """M distinct seeds give M samples, each that of its seed."""
        up = build()
        await up.check()
        await reference(up, source, range(1, 9))

    async def test_probe(self, build):
        """The probe finds a seeded, lossless, aligned upscaler."""
        up = build()
        report = await probe(up)
        assert report.usable
        assert report.honours_seeds
        assert report.lossless
        assert report.warnings == []

    async def test_failed_inside_200(self, build, source):
        """A failed model is an error with its words, although the status is 200."""
        up = build(adapter, input={"fail": True})
        with pytest.raises(GenerationFailed, match="CUDA out of memory"):
            await up.generate(source, [1])

    async def test_rejected(self, build, source):
        """A value that the model does not take is refused, by its name."""
        up = build(adapter, input={"scale": 99})
        with pytest.raises(UpscalerRejected, match=r"scale.*maximum of 8"):
            await up.generate(source, [1])

    async def test_wrong_scale(self, build, source):
        """A configured scale that is not the model's is refused with both sizes."""
        up = build(adapter, input={"scale": 3})
        with pytest.raises(ProtocolError, match="144×144"):
            await up.generate(source, [1])

    async def test_busy(self, build, source):
        """The fifth call into four slots is refused as busy."""
        up = build(adapter, input={"sleep": 5.0}, concurrency=8)
        got = await asyncio.gather(
            *(up.generate(source, [seed]) for seed in range(1, 6)), return_exceptions=True
        )
        assert sum(isinstance(result, Busy) for result in got) == 1

    async def test_no_storm(self, build, source):
        """With more concurrency than slots, few calls are refused and all samples come."""
        up = build(input={"sleep": 0.4}, concurrency=16)
        await up.check()
        await asyncio.gather(*(reference(up, source, [s, s + 50]) for s in range(1, 17)))
        assert up._slots.limit <= 8

    async def test_cancelling_frees_the_slot(self, build, cog, source):
        """Work that nobody waits for ends at the server."""
        up = build(adapter, input={"sleep": 300.0}, call_timeout_s=300)
        tasks = [asyncio.create_task(up.generate(source, [seed])) for seed in range(1, 5)]
        await self.until_health(cog, "BUSY")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.until_health(cog, "READY")

    async def until_health(self, cog, wanted):
        deadline = time.monotonic() + 60
        while await self.health(cog) != wanted:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


class TestBentoMl:
    @pytest.fixture
    def build(self, bentoml, opened):
        return opened(resilient, kind="http", preset="bentoml", url=bentoml.url)

    async def test_samples(self, build, source):
        """Multipart in, PNG out, through the preset."""
        up = build()
        await up.check()
        await reference(up, source, range(1, 5))

    async def test_too_many(self, build, source):
        """Calls over its limit are refused with 429, and waited for."""
        up = build(concurrency=6, request={"fields": {"sleep": 0.2}})
        await reference(up, source, range(1, 7))

    async def test_wrong_field(self, build, source):
        """A wrong field name fails with the server's words."""
        up = build(adapter, request={"image_field": "picture"})
        with pytest.raises(UpscalerFailed, match="error"):
            await up.generate(source, [1])

    async def test_wrong_path(self, build, source):
        """A wrong path is a mistake in the configuration."""
        up = build(adapter, request={"path": "/nonesuch"})
        with pytest.raises(Misconfigured):
            await up.generate(source, [1])


class TestGradio:
    @pytest.fixture
    def build(self, gradio, opened):
        return opened(
            resilient,
            kind="gradio",
            url=gradio.url,
            scale=2,
            api_name="upscale",
            inputs=["{image}", "{seed}", 2],
        )

    async def test_samples(self, build, source):
        """Upload, call, events, fetch."""
        up = build(concurrency=2)
        await up.check()
        await reference(up, source, range(1, 5))
        assert up.capabilities.lossless

    async def test_exception(self, build, source):
        """An exception in the app is a failed generation, although it has no words."""
        up = build(adapter)
        with pytest.raises(GenerationFailed):
            await up.generate(source, [13])

    async def test_quota(self, build, source):
        """A spent GPU quota is recognised."""
        up = build(adapter, api_name="quota", inputs=["{image}"])
        with pytest.raises(UpscalerUnavailable, match="quota"):
            await up.generate(source, [1])

    async def test_wrong_endpoint(self, build):
        """A wrong endpoint is named, with those there are."""
        up = build(api_name="nonesuch")
        with pytest.raises(UpscalerUnavailable, match="it has: /quota, /upscale"):
            await up.check()


class TestTriton:
    @pytest.fixture
    def build(self, triton, opened):
        return opened(resilient, kind="oip", url=triton.url, scale=2)

    async def test_worker_tensors(self, build, source):
        """The tensors of our own worker, binary, several samples in one call."""
        up = build(model="upscale", seed_input="seeds", samples_per_call=4)
        await up.check()
        await reference(up, source, range(1, 9))
        assert up.inner._binary

    async def test_planes(self, build, source):
        """Floating-point planes lose nothing."""
        up = build(
            model="planes",
            image_input="x",
            image_layout="CHW",
            image_datatype="FP32",
            seed_input="seed",
            output="y",
            output_layout="CHW",
        )
        await up.check()
        await reference(up, source, [5])

    async def test_encoded(self, build, source):
        """An encoded file in, an encoded file out."""
        up = build(
            adapter, model="encoded", image_input="file", image_layout="PNG", output="file",
            output_layout="PNG",
        )  # fmt: skip
        [got] = await up.generate(source, [1])
        assert got.shape == (96, 96, 3)

    async def test_wrong_rank(self, build, source):
        """A batch axis that the model does not have is refused with Triton's words."""
        up = build(adapter, model="upscale", seed_input="seeds", image_layout="NHWC")
        with pytest.raises((UpscalerRejected, GenerationFailed), match="shape"):
            await up.generate(source, [1])

    async def test_wrong_model(self, build):
        """A wrong model name is a mistake in the configuration."""
        up = build(model="nonesuch")
        with pytest.raises(UpscalerUnavailable, match="nonesuch"):
            await up.check()


class TestMlServer:
    @pytest.fixture
    def build(self, mlserver, opened):
        return opened(
            resilient,
            kind="oip",
            url=mlserver.url,
            scale=2,
            model="upscale",
            seed_input="seed",
            output_layout="HWC",
        )

    async def test_samples(self, build, source):
        """A server without the binary extension is spoken to in JSON."""
        up = build()
        await up.check()
        assert not up.inner._binary
        await reference(up, source, [1, 2])

    async def test_connections_after_500(self, build, source):
        """After a 500 that closes the connection, the next calls still succeed."""
        up = build(attempts=3)
        for seed in range(1, 5):
            with pytest.raises(GenerationFailed):
                await up.generate(source, [13])
            await up.generate(source, [seed])
