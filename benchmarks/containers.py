"""Figures of the stack as containers: `python -m benchmarks.containers [--requests 40]`.

Starts docker-compose.yml as tests/stack does, and measures the start, memory, requests through the
proxy by one and by three gateways, and what a kill -9 of each container costs in the middle of a
calibration and of three upscalings.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.table import print_table
from tests.factories import encoded, photo
from tests.stack.client import Client
from tests.stack.engine import CORE, Stack
from tests.waiting import block_until

IMAGE = encoded(photo(1000, 128, 128))
CLIENTS = 4  # as many as one gateway of deploy/trustscale.toml works on and lets wait


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        key, password = secrets.token_hex(32), secrets.token_hex(16)
        stack.configure(REDIS_PASSWORD=password, TRUSTSCALE_ADMIN_KEYS=key)
        try:
            with Client(stack) as client:
                measure(stack, client, requests)
        finally:
            stack.down()


def measure(stack: Stack, client: Client, requests: int) -> None:
    began = time.monotonic()
    stack.up()
    healthy = time.monotonic() - began
    client.answers()
    print(f"from `up`: all healthy after {healthy:.0f} s, first mask {_since(began):.0f} s\n")
    idle = stack.memory()
    with _largest_memory(stack) as loaded:
        one = _rate(client, requests)
    rows = [[name.split("_")[1], idle[name].split()[0], loaded[name]] for name in sorted(idle)]
    print_table(["container", "memory, idle", "most under load"], rows)
    stack.up(gateway=3)
    client.answers()
    three = _rate(client, requests)
    print(f"\n128×128 → 512×512, {CLIENTS} clients, requests/s through the proxy: ", end="")
    print(f"one gateway {one:.2f}, three {three:.2f}\n")
    print_table(["killed", "answers, s after the kill", "jobs done, s"], [*_kills(stack, client)])


def _rate(client: Client, requests: int) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: client.upscale(IMAGE).status_code, range(requests)))
    assert set(answers) == {200}, answers
    return requests / _since(began)


def _kills(stack: Stack, client: Client) -> Iterator[list[str]]:
    for service in CORE:
        work = [client.calibrate(8, name=service), *(client.submit() for _ in range(3))]
        began = time.monotonic()
        stack.kill(stack.containers(service)[0])
        client.answers()
        answered = _since(began)
        states = {client.finished(job)["state"] for job in work}
        assert states == {"succeeded"}, states
        done = _since(began)
        block_until(lambda: all(stack.is_healthy(name) for name in stack.containers()))
        yield [service, f"{answered:.1f}", f"{done:.1f}"]


@contextmanager
def _largest_memory(stack: Stack) -> Iterator[dict[str, str]]:
    """The largest figure of each container while the block runs, in the engine's words."""
    found: dict[str, tuple[float, str]] = {}
    shown: dict[str, str] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            for name, words in stack.memory().items():
                figure = words.split()[0]
                found[name] = max(found.get(name, (0.0, "")), (_bytes(figure), figure))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield shown
    finally:
        ended.set()
        watcher.join()
        shown |= {name: figure for name, (_, figure) in found.items()}


def _bytes(figure: str) -> float:
    number = figure.rstrip("kKMGiB")
    return float(number) * {"K": 1e3, "M": 1e6, "G": 1e9}.get(figure[len(number)].upper(), 1)


def _since(began: float) -> float:
    return time.monotonic() - began


if __name__ == "__main__":
    main()
