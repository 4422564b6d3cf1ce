"""Kill -9 in the middle of writes: nothing half, nothing promised is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from app.errors import NotFound
from app.stores.base import JobState, Stores
from tests.contract.conftest import Opener, job

LIVES = 4
KINDS = {"calibration", "active", "result", "job", "finished"}

Promises = dict[str, list[str]]


def live_and_die(url: str, data_dir: Path, life: int) -> list[tuple[str, str]]:
    """Run the writer for a random moment, its first life until it has promised everything once."""
    command = [sys.executable, "-m", "tests.contract.crash_writer", url, str(data_dir), str(life)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        while life == 0 and {line.split()[0] for line in lines} < KINDS:
            lines.append(writer.stdout.readline())
        time.sleep(random.Random(life).uniform(0.01, 0.3))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines(keepends=True)
    promises = [line.split() for line in lines if line.endswith("\n")]
    return [(kind, name) for kind, name in promises]


async def check_calibrations(stores: Stores, promised: Promises) -> None:
    heads = {found.id for found in await stores.calibrations.heads()}
    assert heads >= set(promised["calibration"])
    for name in heads:
        assert await stores.calibrations.get(name) == name.encode() * 5000
    if promised["active"]:
        # The last promised one, or the one that was on its way when the process died.
        under_way = heads - set(promised["active"])
        active = (await stores.calibrations.active())["span"].calibration
        assert active in {promised["active"][-1], *under_way}


async def check_results(stores: Stores, promised: Promises, life: int) -> None:
    for name in promised["result"]:
        assert await stores.results.document(name) == name.encode()
    mine = [name for name in promised["result"] if name.startswith(f"{life}-")]
    under_way = f"{life}-{len(mine)}"
    for name in (*mine, under_way):
        try:
            assert await stores.results.document(name) == name.encode()
        except NotFound:
            assert name == under_way
            continue
        for k in range(3):
            assert await stores.results.blob(name, f"{k}.png") == name.encode() * 20000


async def check_jobs(stores: Stores, promised: Promises) -> None:
    for name in promised["job"]:
        assert (await stores.jobs.load(name)).request == job().request
    for name in promised["finished"]:
        done = await stores.jobs.get(name)
        assert (done.state, done.result) == (JobState.SUCCEEDED, name)


@pytest.mark.slow
async def test_nothing_half_and_nothing_lost(store_url: str, tmp_path: Path, opener: Opener):
    """After each kill every promise holds, and what was not promised is whole or absent."""
    promised: Promises = defaultdict(list)
    for life in range(LIVES):
        for kind, name in live_and_die(store_url, tmp_path / "data", life):
            promised[kind].append(name)
        stores = opener(result_ttl_s=600, max_result_bytes=10**9)
        await check_calibrations(stores, promised)
        await check_results(stores, promised, life)
        await check_jobs(stores, promised)
        await stores.close()
    assert all(promised[kind] for kind in KINDS)
