"""Against servers that somebody else wrote: Cog, BentoML, Gradio, Triton."""

import asyncio
import tomllib

import httpx
import numpy as np
import pytest

from harness.fakes import Sink
from harness.pictures import adapter, patient, resilient, sample
from harness.waiting import PATIENCE_S
from tests.live import serving
from tests.missing import needed
from tests.upscalers.remote.real import RealServer
from tests.workers.fakes import SleepingEngine, textured
from trustscale_server.platform.errors import (
    ProtocolError,
    UpscalerFailed,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.sampling.draw import draw
from trustscale_server.upscalers.connect.request import ConnectRequest
from trustscale_server.upscalers.connect.suggest import suggest
from trustscale_server.upscalers.connect.trial import attempt
from trustscale_server.upscalers.entries import toml_of
from trustscale_server.upscalers.failures import Busy, GenerationFailed
from trustscale_worker.service import create_worker_app

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ENCODED = {
    "model": "encoded", "image_input": "file", "image_layout": "PNG", "seed_input": None,
    "output": "file", "output_layout": "PNG",
}  # fmt: skip
GRADIO = {"kind": "gradio", "scale": 2, "api_name": "upscale", "inputs": ["{image}", "{seed}", 2]}
TRITON = {"kind": "oip", "scale": 2, "model": "upscale", "seed_input": "seeds"}

# Of each server an entry; further settings with the seeds that are drawn; what is added to its
# address to connect it; and calls that fail, with their error.
SERVERS = {
    "cog": (  # four slots
        {"kind": "cog", "scale": 2}, [({}, range(1, 9))], [("", {})],
        [
            # A failed model, although the status is 200.
            ({"input": {"fail": True}}, 1, GenerationFailed, "CUDA out of memory"),
            ({"input": {"scale": 99}}, 1, UpscalerRejected, r"scale.*maximum of 8"),
            ({"input": {"scale": 3}}, 1, ProtocolError, "144×144"),
        ],
    ),
    "bentoml": (
        {"kind": "http", "preset": "bentoml"},
        # Two calls at once; one more is refused with 429, and made again.
        [({"concurrency": 3, "request": {"fields": {"sleep": 0.2}}}, range(1, 4))], [("", {})],
        [({"request": {"image_field": "picture"}}, 1, UpscalerFailed, "error")],
    ),
    "gradio": (
        GRADIO, [({"concurrency": 2}, range(1, 5))], [("", {})],
        [
            ({}, 13, GenerationFailed, "failed"),  # an exception in an app has no words
            ({"api_name": "quota", "inputs": ["{image}"]}, 1, UpscalerUnavailable, "quota"),
            ({"api_name": "nonesuch"}, 1, UpscalerUnavailable, "it has: /quota, /upscale"),
        ],
    ),
    "pytriton": (
        TRITON, [({}, range(1, 9)), (ENCODED, [0])],
        [("/v2/models/upscale", {}), ("", ENCODED)],
        [
            # A batch axis that the model does not have.
            ({"image_layout": "NHWC"}, 1, (UpscalerRejected, GenerationFailed), "shape"),
            ({"model": "nonesuch"}, 1, UpscalerUnavailable, "nonesuch"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVERS)
async def test_served(opened, source, name):
    entry, calls, places, failures = SERVERS[name]
    with needed(), RealServer(name) as server:

        def build(make=resilient, **settings):
            return opened(make, **{**entry, "url": server.url, **settings})

        for settings, seeds in calls:
            up = build(**settings)
            await up.probe()
            await reference(up, source, seeds)
            assert up.capabilities.lossless
        for path, settings in places:
            await connected(opened, source, server.url + path, entry["kind"], settings)
        for settings, seed, kind, words in failures:
            with pytest.raises(kind, match=words):
                await build(adapter, **settings).generate(source, [seed])
        if name == "cog":
            await busy_until_cancelled(build, server, source)
        if name == "pytriton":
            await a_worker_in_its_place(build, source)


async def connected(opened, source, address, kind, settings):
    """From the address alone, and one call: an entry by which the very samples come."""
    wish = ConnectRequest(
        address, settings={"name": "up", **settings}, allow_private=True, network=patient()
    )
    found = await suggest(wish)
    assert (found.needs, "scale" in found.entry) == ([], False)
    tried = await attempt(found.entry, wish)
    assert (tried.scale, tried.lossless) == (2, True)
    written = tomllib.loads(toml_of(tried.entry))["upscalers"][0]
    assert written["kind"] == kind
    up = opened(resilient, **written)
    await up.probe()
    assert up.capabilities.seeds is (written.get("model") != "encoded")
    await reference(up, source, [3, 4] if up.capabilities.seeds else [0])


async def a_worker_in_its_place(build, source):
    """One `oip` entry serves Triton and a worker of ours: only the address differs, and no byte."""
    seeds = [3, 2**31 - 1, 2**40 + 7, 1, 4, 5, 6]
    settings = {"model": "sleeper"}
    with serving(create_worker_app(SleepingEngine())) as address:
        for up in (build(**settings), build(**settings, url=f"http://{address}")):
            await up.probe()
            got = await drawn(up, source, seeds)
            assert np.array_equal(got, [textured(source.rgb, seed) for seed in seeds])


async def busy_until_cancelled(build, server, source):
    """The fifth call into four slots is refused; work that nobody waits for frees its slot."""
    settings = {"input": {"sleep": 300.0}, "call_timeout_s": 300, "concurrency": 8}
    # Each apart: one upscaler that was refused would learn that there are fewer slots.
    waiting = [
        asyncio.create_task(build(**settings).generate(source, [seed])) for seed in range(1, 5)
    ]
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        await reported(client, "BUSY")
        with pytest.raises(Busy):
            await build(adapter, **settings).generate(source, [5])
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await reported(client, "READY")


async def reported(client, status):
    now = None
    async with asyncio.timeout(PATIENCE_S):
        while now != status:
            await asyncio.sleep(0.05)
            now = (await client.get("/health-check")).json()["status"]


async def drawn(up, source, seeds):
    got = {}
    await draw(
        up, source, seeds, sink=Sink(on_sample=lambda i, image: got.update({i: image.copy()}))
    )
    return np.stack([got[row] for row in range(len(seeds))])


async def reference(up, source, seeds):
    """Draw; every sample must be the one of its seed."""
    # Servers have another Pillow, whose bicubic may differ in the last bit.
    difference = (await drawn(up, source, seeds)).astype(int)
    difference -= [sample(source.rgb, seed) for seed in seeds]
    assert np.abs(difference).max() <= 1
