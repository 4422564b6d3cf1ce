"""Against servers that somebody else wrote: Cog, BentoML, Gradio, Triton."""

import asyncio
import tomllib
from contextlib import ExitStack
from functools import cache

import httpx
import numpy as np
import pytest

from tests.fakes import Sink
from tests.live import serving
from tests.missing import not_here
from tests.servers import ServerMissing
from tests.upscalers.remote.pictures import adapter, patient, resilient, sample
from tests.upscalers.remote.real import RealServer
from tests.waiting import PATIENCE_S
from tests.workers.fakes import SleepingEngine, textured
from trustscale_server.errors import (
    ProtocolError,
    UpscalerFailed,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.sampling.draw import draw
from trustscale_server.upscalers.connect import ConnectRequest, attempt, look
from trustscale_server.upscalers.entries import toml_of
from trustscale_server.upscalers.remote.responses import Busy, GenerationFailed
from trustscale_worker.service import create_app

pytestmark = [pytest.mark.servers, pytest.mark.slow]

SERVERS = {
    "cog": {"kind": "cog", "scale": 2},  # four slots
    "bentoml": {"kind": "http", "preset": "bentoml"},  # two calls at once
    "gradio": {
        "kind": "gradio", "scale": 2, "api_name": "upscale", "inputs": ["{image}", "{seed}", 2],
    },
    "pytriton": {"kind": "oip", "scale": 2, "model": "upscale", "seed_input": "seeds"},
}  # fmt: skip
ENCODED = {
    "model": "encoded", "image_input": "file", "image_layout": "PNG", "seed_input": None,
    "output": "file", "output_layout": "PNG",
}  # fmt: skip


@pytest.fixture(scope="session")
def server():
    with ExitStack() as stack:

        @cache
        def started(name):
            try:
                return stack.enter_context(RealServer(name))
            except ServerMissing as missing:
                return missing

        def get(name):
            found = started(name)
            if isinstance(found, ServerMissing):
                not_here(found)
            return found

        yield get


@pytest.fixture
def build(server, opened):
    """An upscaler of one of them, as the service builds it unless told otherwise."""

    def build(name, make=resilient, **settings):
        return opened(make, url=server(name).url, **{**SERVERS[name], **settings})

    return build


@pytest.mark.parametrize(
    ("name", "settings", "seeds"),
    [
        ("cog", {}, range(1, 9)),
        # One call more than it takes is refused with 429, and made again.
        ("bentoml", {"concurrency": 3, "request": {"fields": {"sleep": 0.2}}}, range(1, 4)),
        ("gradio", {"concurrency": 2}, range(1, 5)),
        ("pytriton", {}, range(1, 9)),
        ("pytriton", ENCODED, [0]),
    ],
)
async def test_samples(build, source, name, settings, seeds):
    up = build(name, **settings)
    await up.check()
    await reference(up, source, seeds)
    assert up.capabilities.lossless


async def test_a_worker_in_its_place(build, opened, source):
    """One `oip` entry serves Triton and a worker of ours: only the address differs, and no byte."""
    seeds = [3, 2**31 - 1, 2**40 + 7, 1, 4, 5, 6]
    entry = {**SERVERS["pytriton"], "model": "sleeper"}
    with serving(create_app(SleepingEngine())) as address:
        url = f"http://{address}"
        for up in (
            build("pytriton", **entry),
            opened(resilient, url=url, **entry),
            opened(resilient, kind="worker", urls=[url]),
        ):
            await up.check()
            got = await drawn(up, source, seeds)
            assert np.array_equal(got, [textured(source.rgb, seed) for seed in seeds])


@pytest.mark.parametrize(
    ("name", "path", "settings"),
    [
        ("cog", "", {}),
        ("bentoml", "", {}),
        ("gradio", "", {}),
        ("pytriton", "/v2/models/upscale", {}),
        ("pytriton", "", ENCODED),
    ],
)
async def test_connected(server, opened, source, name, path, settings):
    """From the address alone, and one call: an entry by which the very samples come."""
    settings = {"name": "up", **settings}
    wish = ConnectRequest(
        server(name).url + path, settings=settings, allow_private=True, network=patient()
    )
    found = await look(wish)
    assert (found.needs, "scale" in found.entry) == ([], False)
    tried = await attempt(found.entry, wish)
    assert (tried.scale, tried.lossless) == (2, True)
    written = tomllib.loads(toml_of(tried.entry))["upscalers"][0]
    assert written["kind"] == SERVERS[name]["kind"]
    up = opened(resilient, **written)
    await up.check()
    assert up.capabilities.seeds is (written.get("model") != "encoded")
    await reference(up, source, [3, 4] if up.capabilities.seeds else [0])


@pytest.mark.parametrize(
    ("name", "settings", "seed", "kind", "words"),
    [
        # A failed model, although the status is 200.
        ("cog", {"input": {"fail": True}}, 1, GenerationFailed, "CUDA out of memory"),
        ("cog", {"input": {"scale": 99}}, 1, UpscalerRejected, r"scale.*maximum of 8"),
        ("cog", {"input": {"scale": 3}}, 1, ProtocolError, "144×144"),
        ("bentoml", {"request": {"image_field": "picture"}}, 1, UpscalerFailed, "error"),
        # An exception in a Gradio app has no words.
        ("gradio", {}, 13, GenerationFailed, "failed"),
        ("gradio", {"api_name": "quota", "inputs": ["{image}"]}, 1, UpscalerUnavailable, "quota"),
        ("gradio", {"api_name": "nonesuch"}, 1, UpscalerUnavailable, "it has: /quota, /upscale"),
        # A batch axis that the model does not have.
        (
            "pytriton", {"image_layout": "NHWC"}, 1,
            (UpscalerRejected, GenerationFailed), "shape",
        ),
        ("pytriton", {"model": "nonesuch"}, 1, UpscalerUnavailable, "nonesuch"),
    ],
)  # fmt: skip
async def test_failures(build, source, name, settings, seed, kind, words):
    with pytest.raises(kind, match=words):
        await build(name, adapter, **settings).generate(source, [seed])


async def test_busy_until_cancelled(build, server, source):
    """The fifth call into four slots is refused; work that nobody waits for frees its slot."""
    settings = {"input": {"sleep": 300.0}, "call_timeout_s": 300, "concurrency": 8}
    # Each apart: one upscaler that was refused would learn that there are fewer slots.
    waiting = [
        asyncio.create_task(build("cog", **settings).generate(source, [seed]))
        for seed in range(1, 5)
    ]
    async with httpx.AsyncClient(base_url=server("cog").url, timeout=PATIENCE_S) as client:
        await reported(client, "BUSY")
        with pytest.raises(Busy):
            await build("cog", adapter, **settings).generate(source, [5])
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
