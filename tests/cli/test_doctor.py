"""`trustscale doctor` finds what is wrong, says what to do, and shows no secrets."""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.servers import ran
from trustscale_server.platform import cores as platform_cores
from trustscale_server.platform.cores import core_quota
from trustscale_server.upscalers.embedded.runtime import bf16_unit
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS


@pytest.fixture
def ask(tmp_path):
    def run(**variables):
        given = {f"TRUSTSCALE_{name}": value for name, value in variables.items()}
        environment = {**os.environ, **given, "TRUSTSCALE_DATA_DIR": str(tmp_path / "data")}
        words = (sys.executable, "-m", "trustscale_server", "doctor", "--json")
        done = ran(*words, timeout=120, env=environment, cwd=tmp_path)
        return done, {row["name"]: row for row in json.loads(done.stdout)}

    return run


def test_a_healthy_one(ask):
    """All shipped models answer with their calibrations, and a request goes through all."""
    done, found = ask(ADMIN_KEYS="ops:hidden-admin-key", MAX_WAITING="7")
    assert done.returncode == 0
    assert "error" not in {row["state"] for row in found.values()}
    for name in SHIPPED_MODELS:
        detail = found[f"upscaler {name}"]["detail"]
        assert re.match(r"sha256:[0-9a-f]{12}; reached, \d+ calibrations answer", detail)
    assert "samples" in found["a request"]["detail"]
    assert "max_waiting = 7" in found["differs from the defaults"]["detail"]
    assert "hidden" not in done.stdout + done.stderr


def test_a_worker_that_is_away(ask):
    """What cannot be reached is an error with advice, in words, and the exit code says it."""
    worker = {"name": "gpu", "kind": "worker", "urls": ["http://127.0.0.1:9"]}
    done, found = ask(UPSCALERS=json.dumps([worker]))
    assert done.returncode == 1
    assert found["upscaler gpu"]["state"] == "error"
    assert found["upscaler gpu"]["advice"]
    assert found["upscaler gpu at 127.0.0.1:9"]["state"] == "error"
    assert found["a request"]["detail"].startswith("not made")


def test_a_paid_one_is_not_called(ask):
    """A connection shows that a priced upscaler is there; nothing is asked for that may cost."""
    asked = []

    class Paid(BaseHTTPRequestHandler):
        def handle_one_request(self):
            asked.append(self.rfile.readline())
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Paid) as server, ThreadPoolExecutor(1) as threads:
        threads.submit(server.serve_forever)
        port = server.server_port
        url = f"http://127.0.0.1:{port}"
        paid = {"name": "paid", "kind": "worker", "urls": [url], "price_per_call": 0.01}
        _, found = ask(UPSCALERS=json.dumps([paid]))
        server.shutdown()
    assert b"" in asked
    assert not [line for line in asked if line.startswith(b"POST")]
    assert found[f"upscaler paid at 127.0.0.1:{port}"]["detail"].startswith("connected in")
    assert found["upscaler paid"]["detail"].startswith("not asked")


def test_a_store_that_is_away(ask):
    """So is a store."""
    done, found = ask(STORE="redis://:hidden@127.0.0.1:9/0", QUEUE="redis://127.0.0.1:9/0")
    assert done.returncode == 1
    assert found["start"]["state"] == "error"
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"a/cpu.max": "150000 100000", "cpu.max": "max 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu.max": "max 100000", "cpu/cpu.cfs_quota_us": "-1"}, None),
    ],
)
def test_a_quota_of_cores(tmp_path, files, quota):
    """Quotas of both versions of control groups are read, of the own group and those above."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert core_quota(tmp_path, own) == quota


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (0.5, 1), (2.5, 3), (64, 8)])
def test_threads_follow_the_quota(monkeypatch, quota, cores):
    """Programs with a quota of processor time use no more threads than it can feed."""
    monkeypatch.setattr(platform_cores, "cores", lambda: 8)
    monkeypatch.setattr(platform_cores, "core_quota", lambda: quota)
    assert platform_cores.usable_cores.__wrapped__() == cores


@pytest.mark.parametrize(
    ("flags", "unit"),
    [("fma amx_bf16 avx512_bf16", "AMX_BF16"), ("avx512_bf16", "AVX512_BF16"), ("fma", "")],
)
def test_what_computes_in_bfloat16(tmp_path, flags, unit):
    """The kernel's words tell which unit of the processor is faster than float32."""
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags} end\n")
    assert bf16_unit(tmp_path / "cpuinfo") == unit
    assert bf16_unit(tmp_path / "none") == ""
