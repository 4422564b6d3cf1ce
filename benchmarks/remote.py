"""Remote upscalers: time, retries, a dead upstream, memory.

`python -m benchmarks.remote`. Cog is a real server, installed into `.servers/` when missing. The
other upstreams are fakes in separate processes, so that only the gateway's side is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import resource
import subprocess
import sys
import time

import numpy as np
import structlog

from benchmarks.table import print_table
from tests.factories import encoded
from tests.servers import free_port
from tests.upscalers.remote.faults import FaultServer, answer
from tests.upscalers.remote.pictures import decoded, from_uri, resilient, sample, uri
from tests.upscalers.remote.real import RealServer
from trustscale_server.errors import UpscalerError
from trustscale_server.sampling.draw import draw
from trustscale_server.sigma import estimators
from trustscale_server.telemetry.signals import Metrics
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.probe import pattern

M = 8
MIB = 2**20
LARGE = 1024  # input side; four times that is 4096


class Counter(Metrics):
    """Counts tries by outcome."""

    def __init__(self):
        self.outcomes = {}
        super().__init__()

    def count(self, name, *labels, by=1):
        super().count(name, *labels, by=by)
        if name == "upstream_calls":
            self.outcomes[labels[1]] = self.outcomes.get(labels[1], 0) + by


def upscaler(url, **settings):
    made = resilient(kind="cog", url=url, **{"scale": 2, **settings})
    made.metrics = Counter()
    return made


async def seconds_for(up, source, count):
    started = time.perf_counter()
    await draw(up, source, range(1, count + 1), on_sample=lambda *_: None)
    return time.perf_counter() - started


async def cog():
    """8 samples through 4 slots against two predictions in a row."""
    with RealServer("cog") as server:
        for concurrency in (4, 16):
            up = upscaler(server.url, concurrency=concurrency, input={"sleep": 0.5})
            source = Source(pattern())
            await seconds_for(up, source, 1)
            one = min([await seconds_for(up, source, 1) for _ in range(3)])
            up.metrics.outcomes.clear()
            eight = min([await seconds_for(up, source, M) for _ in range(3)])
            refused = up.metrics.outcomes.get("busy", 0)
            await up.close()
            yield (
                f"Cog, 4 slots, {concurrency} allowed: 8 samples / (2 x one of {one:.2f} s)",
                f"{eight / (2 * one):.2f}",
                "1.15" if concurrency == 4 else "-",
            )
            yield ("  refused as busy in 24 calls", str(refused), "no storm")


async def latency():
    """8 samples through an unlimited upstream of 300 ms against one call."""
    with Fake("latency") as url:
        up = upscaler(url, concurrency=M)
        source = Source(pattern()[:64, :64].copy())
        await seconds_for(up, source, M)
        one = min([await seconds_for(up, source, 1) for _ in range(3)])
        eight = min([await seconds_for(up, source, M) for _ in range(3)])
        await up.close()
    yield (f"300 ms, no limit: 8 samples / one of {one:.3f} s", f"{eight / one:.2f}", "1.3")


async def flaky():
    """1,000 requests with a fifth of the calls failing."""
    with Fake("flaky") as url:
        up = upscaler(url, concurrency=64)
        answered = 0

        async def work(numbers):
            nonlocal answered
            for _ in numbers:
                try:
                    await draw(
                        up,
                        Source(pattern()[:16, :16].copy()),
                        range(1, M + 1),
                        on_sample=lambda *_: None,
                    )
                    answered += 1
                except UpscalerError as error:
                    print(f"lost: {error.detail}", file=sys.stderr)

        numbers = iter(range(1000))
        await asyncio.gather(*(work(numbers) for _ in range(24)))
        calls = sum(up.metrics.outcomes.values())
        await up.close()
    yield ("20 % failing: of 1,000 requests answered", str(answered), "999")
    yield ("  calls / (1,000 x 8)", f"{calls / (1000 * M):.2f}", "1.5")


async def dead():
    """How fast the answer is when the breaker is open."""
    up = upscaler(f"http://127.0.0.1:{free_port()}", concurrency=4)
    slowest, first = 0.0, None
    for number in range(30):
        started = time.perf_counter()
        try:
            await draw(up, Source(pattern()), range(1, M + 1), on_sample=lambda *_: None)
        except UpscalerError:
            took = time.perf_counter() - started
            first = took if number == 0 else first
            slowest = max(slowest, took) if number > 1 else slowest
    await up.close()
    yield (f"dead upstream: slowest answer (the first took {first:.1f} s), ms",
           f"{1000 * slowest:.1f}", "100")  # fmt: skip


def memory():
    """Peak memory of a process that folds M samples of 4096 x 4096."""
    plane = 4 * (4 * LARGE) ** 2
    peaks = {}
    with Fake("large") as url:
        for kind in ("nothing", "1", str(M), str(2 * M)):
            command = [sys.executable, "-m", "benchmarks.remote", "--fold", kind, url]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[kind] = int(run.stdout)
    for kind in ("1", str(M), str(2 * M)):
        extra = peaks[kind] - peaks["nothing"]
        yield (
            f"{kind} x 4096 x 4096: peak over an idle process, MiB",
            f"{extra / MIB:.0f}",
            f"{5 * 3 * plane / MIB:.0f}",
        )
        yield ("  in float32 RGB samples", f"{extra / plane / 3:.2f}", "5")
        yield ("  in float32 planes of one channel", f"{extra / plane:.1f}", "-")


async def fold(count, url):
    """The measured part of `memory`: prints the peak of its process."""
    source = Source(np.tile(pattern(), (11, 11, 1))[:LARGE, :LARGE].copy())
    if count:
        up = upscaler(url, scale=4, concurrency=M)
        accumulator = estimators.Accumulator((4 * LARGE, 4 * LARGE))
        await draw(
            up, source, range(1, count + 1), on_sample=lambda _, image: accumulator.add(image)
        )
        await up.close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


class Fake:
    """A fake Cog server in a separate process."""

    def __init__(self, kind):
        self._kind = kind

    def __enter__(self):
        command = [sys.executable, "-m", "benchmarks.remote", "--serve", self._kind]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self._process.stdout.readline().strip()

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


async def serve(kind):
    chance = random.Random(1)
    ready = {}

    def prepared(seed):
        if seed not in ready:
            large = np.tile(pattern(), (11, 11, 1))[:LARGE, :LARGE]
            ready[seed] = encoded(sample(large, seed, 4), compress_level=1)
        return ready[seed]

    async def behave(asked, writer):
        if asked.method == "GET":
            return await answer(json={"status": "READY"})(asked, writer)
        given = json.loads(asked.body)["input"]
        if kind == "latency":
            await asyncio.sleep(0.3)
        if kind == "flaky" and chance.random() < 0.2:
            return await answer(500, json={"error": "boom"})(asked, writer)
        if kind == "large":
            png = prepared(given["seed"] % M)
        else:
            png = encoded(sample(decoded(from_uri(given["image"])), given["seed"]))
        result = {"status": "succeeded", "output": uri(png)}
        return await answer(json=result)(asked, writer)

    if kind == "large":
        for seed in range(M):
            prepared(seed)
    async with FaultServer([behave]) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


async def main():

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows = []
    for part in (cog, latency, flaky, dead):
        rows += [row async for row in part()]
    rows += list(memory())
    print("\nRemote upscalers\n")
    print_table(("what", "measured", "bar"), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    parser.add_argument("--fold", nargs=2)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve))
    elif arguments.fold:
        number, where = arguments.fold
        asyncio.run(fold(0 if number == "nothing" else int(number), where))
    else:
        asyncio.run(main())
