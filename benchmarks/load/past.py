"""What a picture costs the gateway when its bytes go past it, by a local S3, and when they do not.

Three parts, each both ways: a large upload becomes a job that nobody runs; a result is fetched; an
upload is answered at once by an upscaler that costs nothing, and the answer is fetched. Counted are
seconds of a core of the gateway and its decoders, so neither the S3 nor the clients matter. Then:
how many results Redis takes into its one index from gateways that get in each other's way.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from benchmarks.load.clients import Ask, load, photograph
from benchmarks.load.server import FAKE, Server, serving
from benchmarks.table import print_table
from tests.servers import RedisServer, S3Server
from trustscale_server.stores.base import Stores, open_stores

LARGE, SMALL = 2048, 512
CLIENTS, GATEWAYS = 2, 8
JOB = {"Prefer": "respond-async"}
ZIP = {"Accept": "application/zip"}
PAGE = {"Sec-Fetch-Site": "same-origin"}  # it gets its files from the gateway


async def sent(client: httpx.AsyncClient, image: bytes, **headers: str) -> httpx.Response:
    return await client.post("/v1/upscale", files={"image": image}, headers=headers)


async def put(client: httpx.AsyncClient, image: bytes, **headers: str) -> httpx.Response:
    place = (await client.post("/v1/uploads")).raise_for_status().json()
    stored = await client.put(place["url"], content=image, headers=place["headers"])
    stored.raise_for_status()
    upload = {"upload": place["upload"]}
    return await client.post("/v1/upscale", data=upload, headers=headers)


async def fetched(client: httpx.AsyncClient, answer: httpx.Response, **headers: str) -> None:
    links = answer.raise_for_status().json()["links"]
    for part in ("image", "mask", "trust"):
        file = await client.get(links[part], headers=headers, follow_redirects=True)
        file.raise_for_status()


def asks(url: str) -> dict[str, tuple[Ask, Ask]]:
    large, small = photograph(LARGE), photograph(SMALL)
    made = httpx.post(f"{url}/v1/upscale", files={"image": small}, timeout=600, trust_env=False)

    async def fetch(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
        await fetched(client, made, **headers)
        return made

    async def whole(client: httpx.AsyncClient) -> httpx.Response:
        answer = await put(client, small)
        await fetched(client, answer)
        return answer

    return {
        f"an upload of {LARGE}² ({len(large) / 1e6:.1f} MB) becomes a job": (
            lambda client: sent(client, large, **JOB),
            lambda client: put(client, large, **JOB),
        ),
        f"a result of {4 * SMALL}² is fetched": (lambda client: fetch(client, **PAGE), fetch),
        f"{SMALL}² → {4 * SMALL}², sent, answered and fetched": (
            lambda client: sent(client, small, **ZIP),
            whole,
        ),
    }


def cost_s(server: Server, ask: Ask, seconds: float) -> float:
    asyncio.run(load(server.url, ask, clients=CLIENTS, seconds=1))
    before = server.cpu_s()
    answers = asyncio.run(load(server.url, ask, clients=CLIENTS, seconds=seconds))
    if strange := {answer.status for answer in answers} - {200, 202}:
        raise SystemExit(f"not all were answered: {strange}")
    return (server.cpu_s() - before) / len(answers)


async def kept_per_s(url: str, folder: Path, seconds: float) -> float:
    kept, end = 0, time.monotonic() + seconds
    limits = {"result_ttl_s": 600.0, "max_result_bytes": 10**12}

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for gateway in range(GATEWAYS):
            stores = open_stores(url, folder, blobs_url=f"file://{folder}/blobs", **limits)
            stack.push_async_callback(stores.close)

            async def work(name: str, stores: Stores = stores) -> None:
                nonlocal kept
                while time.monotonic() < end:
                    await stores.results.put(f"{name}-{kept}", b"{}", {"mask.png": b""})
                    kept += 1

            for request in range(4):
                group.create_task(work(f"{gateway}-{request}"))
    return kept / seconds


def main(seconds: float) -> None:
    settings = {
        "embedded_job_worker": False,
        "max_queued_jobs": 10**6,
        "max_in_flight_bytes": 10**10,
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder, S3Server() as s3:
        os.environ.update(s3.environ)
        with serving(Path(folder), FAKE, blobs=f"s3://{s3.bucket}/load", **settings) as server:
            for what, (through, past) in asks(server.url).items():
                costs = [cost_s(server, ask, seconds) for ask in (through, past)]
                rows.append((what, *(f"{1e3 * cost:.0f} ms: {1 / cost:.2f}" for cost in costs)))
    print("\nms of a gateway's core for each: how many a second and core\n")
    print_table(("what", "through the gateway", "past it"), rows)
    with tempfile.TemporaryDirectory() as folder, RedisServer() as redis:
        rate = asyncio.run(kept_per_s(redis.url, Path(folder), seconds))
    print(f"\n{rate:.0f} results a second are kept by {GATEWAYS} gateways on one Redis")
