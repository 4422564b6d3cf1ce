"""Gateways and job workers as processes of their own, with an upscaler that only sleeps.

As a program: `python -m benchmarks.fleet serve PORT` or `python -m benchmarks.fleet jobs`; settings
come from the environment, as for `trustscale`. `FLEET_SECONDS` is how long a sample takes,
`FLEET_LOG` a file that gets one line per sample: the process and the seed. While the file
`FLEET_SHUT` exists, no sample ends.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import httpx
import uvicorn

from app.assembly import open_parts
from app.jobs.queue import run_until_signalled
from app.main import create_app
from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logs
from app.upscalers.base import RGB, Capabilities, Source
from app.upscalers.registry import UpscalerConfig
from tests.fakes import FakeUpscaler
from tests.servers import ProcessGroup, free_port

ADMIN_KEY = "fleet-admin-key"
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}


class LoggedUpscaler(FakeUpscaler):
    """Writes down every sample, so that what a killed worker repeats can be counted."""

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: object = None
    ) -> list[RGB]:
        _note(seeds)
        return await super().generate(source, seeds, turn)


class Gate:
    """Open unless the file exists, in all processes."""

    def __init__(self, shut: str) -> None:
        self.shut = shut

    def is_set(self) -> bool:
        return not os.path.exists(self.shut)  # noqa: PTH110 - looked at very often


def _note(seeds: Sequence[int]) -> None:
    with Path(os.environ["FLEET_LOG"]).open("a") as log:
        log.writelines(f"{os.getpid()} {seed}\n" for seed in seeds)


def build(config: UpscalerConfig, environ: Mapping[str, str]) -> LoggedUpscaler:
    return LoggedUpscaler(
        config.name,
        seconds=float(environ["FLEET_SECONDS"]),
        capabilities=Capabilities(concurrency=64),
        gate=Gate(environ["FLEET_SHUT"]),
    )


async def jobs(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        parts = await open_parts(settings, stack, build)
        await run_until_signalled(parts.queue, parts.handlers, concurrency=parts.concurrency)


class Fleet:
    """Gateways and workers on one Redis; all of them end with the `with`."""

    def __init__(
        self, folder: Path, redis_url: str, *, seconds: float, lease_s: float = 5.0, slots: int = 2
    ) -> None:
        self.folder = folder
        self.log = folder / "samples.log"
        self.shut = folder / "shut"
        self.processes: list[ProcessGroup] = []
        self._clients: list[httpx.Client] = []
        self.env = {
            "TRUSTSCALE_STORE": redis_url,
            "TRUSTSCALE_QUEUE": redis_url,
            "TRUSTSCALE_DATA_DIR": str(folder / "data"),
            "TRUSTSCALE_ADMIN_KEYS": ADMIN_KEY,
            "TRUSTSCALE_UPSCALERS": '[{"name": "fake", "kind": "embedded"}]',
            "TRUSTSCALE_JOB_LEASE_S": str(lease_s),
            "TRUSTSCALE_JOB_CONCURRENCY": str(slots),
            "FLEET_SECONDS": str(seconds),
            "FLEET_LOG": str(self.log),
            "FLEET_SHUT": str(self.shut),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        for process in self.processes:
            process.kill()

    def worker(self) -> ProcessGroup:
        return self._start("jobs")

    def gateway(self) -> httpx.Client:
        port = free_port()
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=120, trust_env=False
        )

        self._clients.append(client)
        self._start("serve", str(port)).wait_for(f"http://127.0.0.1:{port}/healthz", "the gateway")
        return client

    def samples(self) -> list[tuple[int, int]]:
        """(process, seed) of all samples that were begun."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def _start(self, *arguments: str) -> ProcessGroup:
        log = self.folder / f"process{len(self.processes)}.log"
        command = [sys.executable, "-m", "benchmarks.fleet", *arguments]
        self.processes.append(ProcessGroup(command, log=log, env=self.env))
        return self.processes[-1]


if __name__ == "__main__":
    configure_logs("info", "console")
    if sys.argv[1] == "jobs":
        asyncio.run(jobs(load_settings()))
    else:
        uvicorn.run(
            create_app(load_settings(), build=build), port=int(sys.argv[2]), log_config=None
        )
