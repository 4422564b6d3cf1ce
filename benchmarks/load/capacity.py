"""64 clients against a capacity of 4, with an upscaler that only sleeps.

Asserted: no status but 200 and 503 with Retry-After, memory that stays flat, and requests that are
served take at most 1.5 times as long as with 4 clients, which fill the slots and never wait.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.clients import (
    Answer,
    load,
    percentiles,
    photograph,
    rate,
    served,
    statuses,
    upscaling,
)
from benchmarks.load.server import FAKE, Memory, serving
from benchmarks.table import print_table

CAPACITY, CLIENTS = 4, 64
SIDE = 128
SLEEP_S = 0.5
MOST_RATIO = 1.5
MOST_GROWTH = 1.1


def main(seconds: float) -> None:
    settings = {"max_in_flight": CAPACITY, "max_waiting": 0, "result_ttl_s": 5}
    ask = upscaling(photograph(SIDE), alpha="0.05")
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), FAKE, sleep_s=SLEEP_S, **settings) as server,
    ):
        asyncio.run(load(server.url, ask, clients=CAPACITY, seconds=5))
        with Memory(server) as calm:
            few = asyncio.run(load(server.url, ask, clients=CAPACITY, seconds=seconds))
        with Memory(server) as crowded:
            many = asyncio.run(load(server.url, ask, clients=CLIENTS, seconds=seconds))
    rows = [
        (count, f"{rate(answers):.2f}", statuses(answers), percentiles(served(answers)), peak)
        for count, answers, peak in (
            (CAPACITY, few, f"{calm.most_mb:.0f}"),
            (CLIENTS, many, f"{crowded.most_mb:.0f}"),
        )
    ]
    print(f"\n{SIDE}×{SIDE}, a sample sleeps {SLEEP_S} s, {CAPACITY} slots, no waiting places\n")
    print_table(("clients", "served/s", "statuses", "p50 / p95 / p99 s, served", "MB"), rows)
    check(few, many, calm, crowded)


def check(few: Sequence[Answer], many: Sequence[Answer], calm: Memory, crowded: Memory) -> None:
    ratio = statistics.median(served(many)) / statistics.median(served(few))
    growth = crowded.most_mb / calm.most_mb
    print(f"\nlatency × {ratio:.2f} (at most {MOST_RATIO}), memory × {growth:.2f}")
    strange = [answer for answer in many if answer.status not in {200, 503}]
    assert not strange, strange
    assert all(answer.pause >= 1 for answer in many if answer.status == 503)
    assert ratio <= MOST_RATIO, ratio
    assert growth <= MOST_GROWTH, growth
