"""Load on a real server, run by hand; each prints its table.

python -m benchmarks.load clients [--seconds 60]     1, 8 and 64 clients, embedded upscaler
python -m benchmarks.load capacity [--seconds 30]    64 clients against 4 slots; asserts
python -m benchmarks.load bound [--seconds 30]       what the gateway adds to codec and σ
python -m benchmarks.load past [--seconds 6]         bytes through the gateway, and past it
python -m benchmarks.load soak [--seconds 1200]      mixed load, memory over time
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks.load import bound, capacity, past, soak
from benchmarks.load.clients import load, percentiles, photograph, rate, served, statuses, upscaling
from benchmarks.load.server import REAL, Memory, serving
from benchmarks.table import print_table

SIDE = 64
COUNTS = (1, 8, 64)


def clients(seconds: float) -> None:
    ask = upscaling(photograph(SIDE))
    rows = []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), REAL) as server:
        asyncio.run(load(server.url, ask, clients=1, seconds=3))
        for count in COUNTS:
            with Memory(server) as memory:
                answers = asyncio.run(load(server.url, ask, clients=count, seconds=seconds))
            rows.append(
                (
                    count,
                    f"{rate(answers):.2f}",
                    statuses(answers),
                    percentiles(served(answers)),
                    f"{memory.most_mb:.0f}",
                    f"{memory.slope_mb_per_h(0.25) / 60:+.1f}",
                )
            )
    print(f"\n{SIDE}×{SIDE} → {4 * SIDE}×{4 * SIDE}, M = 8, {seconds:.0f} s each\n")
    head = ("clients", "results/s", "statuses", "p50 / p95 / p99 s, served", "MB", "MB/min")
    print_table(head, rows)


RUNS = {
    "clients": (clients, 60.0),
    "capacity": (capacity.main, 30.0),
    "bound": (bound.main, 30.0),
    "past": (past.main, 6.0),
    "soak": (soak.main, 1200.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", choices=list(RUNS))
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    run, usual = RUNS[arguments.run]
    run(arguments.seconds or usual)


if __name__ == "__main__":
    main()
