"""Kill -9 of any container of the stack: `python -m benchmarks.containers [--runs 3] [--only …]`.

The whole stack runs as processes: Redis (append-only file, everysec), two `trustscale serve`, one
`trustscale jobs`, and the torch worker with the tiny SinSR of the tests. Each run submits a
calibration and four asynchronous upscalings, kills one process at a random moment of the next two
seconds, starts it again a second later as a container engine would, and asks the gateways for an
upscaling until one is answered. A run is good if that takes at most 10 s from the restart, all jobs
succeed, all calibrations and the first result are still there, seen by both gateways, and an
activation by one is served by the other within a second. The lease of jobs is 5 s.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.table import print_table
from tests.api.admin import BASE, truth_files, zipped
from tests.factories import encoded, photo
from tests.servers import ProcessGroup, RedisServer, free_port

VICTIMS = ("nothing", "gateway", "job worker", "Redis", "torch worker")
ADMIN_KEY = "containers-admin-key"
TINY = Path(__file__).parent.parent / "tests" / "data" / "sinsr"
IMAGE = encoded(photo(1000, 16, 16))
PAIRS, SAMPLES, UPSCALINGS = 12, 4, 4
LEASE_S, RESTART_S, PATIENCE_S = 5, 1.0, 90.0
WITHIN_S, SEEN_WITHIN_S = 10.0, 1.0


class Run(NamedTuple):
    """What one kill did."""

    back_s: float
    seen_s: float
    jobs_s: float
    lost: list[str]


class Stack:
    """The processes and two clients; all of them end with the `with`."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.folder, self.redis = folder, redis
        self.ports = [free_port(), free_port()]
        self.worker_port = free_port()
        self.processes: dict[str, ProcessGroup] = {}
        self.clients = [
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {ADMIN_KEY}"},
                timeout=30,
                trust_env=False,
            )
            for port in self.ports
        ]
        upscaler = {
            "name": "sinsr",
            "kind": "worker",
            "urls": [f"http://127.0.0.1:{self.worker_port}"],
        }
        self.env = {
            "TRUSTSCALE_STORE": redis.url,
            "TRUSTSCALE_QUEUE": redis.url,
            "TRUSTSCALE_DATA_DIR": str(folder / "data"),
            "TRUSTSCALE_ADMIN_KEYS": ADMIN_KEY,
            "TRUSTSCALE_UPSCALERS": f"[{_json(upscaler)}]",
            "TRUSTSCALE_JOB_LEASE_S": str(LEASE_S),
        }
        worker = ["-m", "workers", "worker", "--model", "sinsr", "--threads", "1"]
        worker += ["--config", str(TINY / "tiny.json"), "--weights", str(TINY / "unet_tiny.pth")]
        worker += ["--autoencoder", str(TINY / "vq_tiny.pth"), "--port", str(self.worker_port)]
        self.commands = {
            "torch worker": worker,
            "gateway": ["-m", "app", "serve", "--port", str(self.ports[0])],
            "second gateway": ["-m", "app", "serve", "--port", str(self.ports[1])],
            "job worker": ["-m", "app", "jobs"],
        }

    def start(self, name: str) -> None:
        """Start a process, without waiting for it."""
        if name == "Redis":
            self.redis.start()
        elif name != "nothing":
            log = self.folder / f"{name}.log"
            command = [sys.executable, *self.commands[name]]
            self.processes[name] = ProcessGroup(command, log=log, env=self.env)

    def kill(self, name: str) -> None:
        """Kill -9."""
        if name == "Redis":
            self.redis.kill()
        elif name != "nothing":
            self.processes[name].kill()

    def end(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes.values():
            process.kill()

    def calibrate(self) -> str:
        """The path of a new job."""
        answer = self.clients[1].post(
            BASE,
            files={"archive": ("pairs.zip", zipped(truth_files(PAIRS, side=64)))},
            data={"config": _json({"samples": SAMPLES})},
        )
        return str(answer.raise_for_status().headers["location"])

    def upscale(self, client: httpx.Client, **headers: str) -> httpx.Response:
        return client.post("/v1/upscale", files={"image": ("a.png", IMAGE)}, headers=headers)

    def answers(self) -> bool:
        """Whether every gateway answers an upscaling."""
        try:
            return all(self.upscale(client).status_code == 200 for client in self.clients)
        except httpx.TransportError:
            return False

    def finished(self, job: str) -> dict[str, Any]:
        """The job once it has ended."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.clients[1].get(job).json())
            return found.get("state") not in {"queued", "running"}

        until(ended)
        return found

    def ids(self, client: httpx.Client) -> set[str]:
        """All calibrations."""
        return {found["id"] for found in client.get(BASE).raise_for_status().json()}

    def activate(self, calibration: str) -> float:
        """Activate by the first gateway; seconds until the second one serves it."""
        self.clients[0].post(f"{calibration}/activate", json={"force": True}).raise_for_status()
        wanted = calibration.rsplit("/", 1)[-1]
        return until(lambda: self._serves(wanted))

    def _serves(self, wanted: str) -> bool:
        [upscaler] = self.clients[1].get("/v1/upscalers").json()
        return bool(upscaler["calibration"] == wanted)


def _json(value: object) -> str:
    return httpx.Request("POST", "http://x", json=value).content.decode()


def until(condition: Callable[[], bool]) -> float:
    """Seconds until the condition holds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(f"not within {PATIENCE_S:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began


def run(stack: Stack, victim: str) -> Run:
    """Disturb the stack once."""
    before = stack.ids(stack.clients[0])
    stored = stack.upscale(stack.clients[0]).raise_for_status().json()["links"]["image"]
    picture = stack.clients[1].get(stored).content
    calibration = stack.calibrate()
    jobs = [
        str(stack.upscale(stack.clients[1], Prefer="respond-async").headers["location"])
        for _ in range(UPSCALINGS)
    ]
    began = time.monotonic()
    time.sleep(random.uniform(0, 2))
    stack.kill(victim)
    if victim != "nothing":
        time.sleep(RESTART_S)
    restarted = time.monotonic()
    stack.start(victim)
    until(stack.answers)
    back = time.monotonic() - restarted
    ended = {path: stack.finished(path) for path in [calibration, *jobs]}
    jobs_s = time.monotonic() - began
    lost = [f"{path}: {job['state']}" for path, job in ended.items() if job["state"] != "succeeded"]
    seen = 0.0
    if not lost:
        made = str(ended[calibration]["result"])
        seen = stack.activate(made)
        wanted = before | {made.rsplit("/", 1)[-1]}
        lost += [f"calibrations of {c.base_url}" for c in stack.clients if stack.ids(c) != wanted]
    for client in stack.clients:
        if client.get(stored).content != picture:
            lost.append(f"{stored} at {client.base_url}")
        results = [job["result"] for path, job in ended.items() if path != calibration]
        lost += [str(link) for link in results if not link or client.get(link).status_code != 200]
    return Run(back, seen, jobs_s, lost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(VICTIMS), choices=VICTIMS)
    arguments = parser.parse_args()
    rows = []
    with ExitStack() as everything:
        folder = Path(everything.enter_context(tempfile.TemporaryDirectory()))
        redis = everything.enter_context(RedisServer())
        stack = Stack(folder, redis)
        everything.callback(stack.end)
        for name in stack.commands:
            stack.start(name)
        until(lambda: _ready(stack))
        stack.activate(str(stack.finished(stack.calibrate())["result"]))
        for victim in arguments.only:
            runs = [run(stack, victim) for _ in range(arguments.runs)]
            for problem in (problem for each in runs for problem in each.lost):
                print(f"{victim}: lost {problem}", flush=True)
            good = [not r.lost and r.back_s <= WITHIN_S and r.seen_s <= SEEN_WITHIN_S for r in runs]
            rows.append(
                [
                    victim,
                    f"{sum(good)} of {len(runs)}",
                    _spread([r.back_s for r in runs]),
                    _spread([r.jobs_s for r in runs]),
                    f"{max(r.seen_s for r in runs):.2f}",
                ]
            )
            print(*rows[-1], sep="  ", flush=True)
    print(f"\nstarted again after {RESTART_S:.0f} s; lease {LEASE_S} s\n")
    print_table(
        [
            "killed",
            "good",
            "all gateways answer, s after the restart",
            "jobs done, s",
            "activation seen by the other gateway, s",
        ],
        rows,
    )


def _ready(stack: Stack) -> bool:
    """Whether both gateways know what the worker is, which /readyz makes them ask."""
    try:
        for client in stack.clients:
            client.get("/readyz")
        return all(_reached(client) for client in stack.clients)
    except httpx.TransportError:
        return False


def _reached(client: httpx.Client) -> bool:
    [upscaler] = client.get("/v1/upscalers").json()
    return bool(upscaler["fingerprint"])


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


if __name__ == "__main__":
    main()
