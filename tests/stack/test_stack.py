"""From `.env.example` to a mask through the proxy, scaled, killed, cut off, filled up, upgraded.

The tests share one stack and run in the order in which they stand here.
"""

import json
import re
import secrets
import shutil
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from harness.waiting import block_until
from tests.missing import not_here
from tests.stack.client import Client
from tests.stack.engine import CORE, PROJECT, ROOT

pytestmark = pytest.mark.stack

CUT_S = 45.0
"""Longer than the lease of a job, and the third more in which another worker takes it."""


def commands_of(page, section):
    text = page.read_text("utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?m)^ {4}.*\n(?:(?: {4}.*)?\n)*", text)
    return [textwrap.dedent(block) for block in found]


def test_a_worker_is_found_by_env_alone(stack, client, tmp_path):
    """With lines of `.env` a worker on the CPU starts; gateways calibrate it and answer by it."""
    if not stack.call("images", "--quiet", "trustscale-worker:local").strip():
        not_here("the worker's image is not built (make images TARGETS='gateway worker')")
    data = ROOT / "tests" / "data" / "sinsr"
    for name in ("unet_tiny.pth", "vq_tiny.pth"):
        shutil.copy(data / name, tmp_path)
    tmp_path.chmod(0o755)
    config = json.dumps(json.loads((data / "tiny.json").read_text("utf-8")))
    stack.configure(WORKER_MODEL="sinsr", WEIGHTS_DIR=str(tmp_path), WORKER_CONFIG=f"'{config}'")
    stack.up(*CORE, "cpu-worker", profiles=("cpu-worker",))
    ended = client.finished(client.calibrate(upscaler="worker", samples=2, activate=True))
    assert ended["state"] == "succeeded", ended
    answer = client.upscale(upscaler="worker", alpha="0.3")
    assert answer.status_code == 200, answer.text
    assert answer.json()["calibration"] == ended["result"].rpartition("/")[2]
    assert answer.json()["guarantee"]["n"] > 1


def test_nothing_secret_is_seen_in_a_list_of_processes(stack):
    secrets = [stack.settings["REDIS_PASSWORD"], stack.settings["TRUSTSCALE_ADMIN_KEYS"]]
    for name in stack.containers():
        pids = stack.call("exec", name, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert not any(secret in pids for secret in secrets), name


def test_three_gateways_share_the_requests(stack, client):
    stack.up(gateway=3, jobs=2)
    assert len(stack.containers("gateway")) == 3
    assert len(stack.containers("jobs")) == 2

    def all_asked():
        client.answers()
        return all(
            "/v1/upscale" in stack.call("logs", name) for name in stack.containers("gateway")
        )

    block_until(all_asked)


@contextmanager
def traffic(stack):
    """Four clients that never try again send uploads all the while, and each is answered."""
    stopped = threading.Event()

    def upload():
        codes = set()
        with Client(stack) as other:
            while not stopped.is_set():
                codes.add(other.upscale().status_code)
        return codes

    with ThreadPoolExecutor() as pool:
        try:
            sent = [pool.submit(upload) for _ in range(4)]
            yield pool
        finally:
            stopped.set()
    assert [one.result() for one in sent] == [{200}] * 4


@pytest.mark.parametrize("service", ["gateway", "jobs", "proxy", "redis"])
def test_a_killed_container_loses_nothing(stack, client, service):
    """Kill -9 in the middle of a calibration and of upscalings: all jobs succeed, all is kept."""
    before = client.calibrations()
    work = [client.calibrate(8, samples=2, name=service), *(client.submit() for _ in range(3))]
    stack.kill(stack.containers(service)[0])
    block_until(lambda: all(stack.is_healthy(name) for name in stack.containers()))
    sys.stderr.write(f"\n{service}: answered {client.answers():.1f} s after the restart\n")
    ended = [client.finished(job) for job in work]
    assert [job["state"] for job in ended] == ["succeeded"] * len(work), ended
    assert before <= client.calibrations()


def test_a_partition_of_redis(stack, client):
    """For longer than a lease nobody reaches Redis: it is told, and nothing freezes or is lost."""
    before = client.calibrations()
    work = [client.calibrate(8, samples=2, name="cut"), *(client.submit() for _ in range(3))]
    (redis,) = stack.containers("redis")
    others = [*stack.containers("gateway"), *stack.containers("jobs")]
    pids = [stack.inspect(name)["State"]["Pid"] for name in others]
    with stack.cut_off(redis):
        ends = time.monotonic() + CUT_S
        while time.monotonic() < ends:
            answer = client.upscale()
            assert answer.status_code == 503, answer.text
            assert answer.json()["type"] == "/problems/store-unavailable"
    client.answers()
    ended = [client.finished(job) for job in work]
    assert [job["state"] for job in ended] == ["succeeded"] * len(work), ended
    assert [stack.inspect(name)["State"]["Pid"] for name in others] == pids
    assert before < client.calibrations()


def test_a_full_redis_is_told(stack, client):
    """Nothing is generated that could not be kept, and readiness tells, until there is room."""
    before = client.calibrations()
    client.answers()
    stack.redis("CONFIG", "SET", "maxmemory", "1mb")
    try:
        answer = client.upscale()
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"] == "/problems/store-unavailable"
        block_until(lambda: client.get("/readyz").status_code == 503)
    finally:
        stack.redis("CONFIG", "SET", "maxmemory", "1gb")
    client.answers()
    assert client.calibrations() == before


def test_a_backup_is_restored(stack, client, tmp_path):
    """The commands of docs/maintenance.md: all is there again, and Redis can rewrite its file."""
    stack.up()
    save, restore = commands_of(ROOT / "docs" / "maintenance.md", "Backup")
    before, result = client.calibrations(), client.upscale().json()["links"]["self"]
    stack.shell(save, tmp_path)
    client.answers()
    assert client.get(result).status_code == 200
    stack.shell(restore, tmp_path)
    client.answers()
    assert client.calibrations() == before
    assert client.get(result).status_code == 200
    stack.redis("BGREWRITEAOF")
    block_until(lambda: "aof_rewrite_in_progress:0" in stack.redis("INFO", "persistence"))
    assert "aof_last_bgrewrite_status:ok" in stack.redis("INFO", "persistence")


def test_secrets_in_files_are_not_seen(stack, client, tmp_path):
    """With deploy/compose.secrets.yml the files win, and nothing of them is seen by `inspect`."""
    kept = {name: secrets.token_hex(32) for name in ("redis_password", "admin_keys")}
    for name, secret in kept.items():
        (tmp_path / name).write_text(secret, "utf-8")
        (tmp_path / name).chmod(0o444)
    stack.files.append("deploy/compose.secrets.yml")
    stack.configure(REDIS_PASSWORD="file", TRUSTSCALE_ADMIN_KEYS="file", SECRETS_DIR=str(tmp_path))
    stack.up()
    assert client.calibrations()
    for name in stack.containers():
        seen = json.dumps(stack.inspect(name))
        assert not [secret for secret in kept.values() if secret in seen], name


def test_an_upgrade_is_not_noticed(stack, client, tmp_path):
    """The command of docs/maintenance.md, even with one of each: no request fails, all is kept."""
    before = client.calibrations()
    result = client.upscale().json()["links"]["self"]
    old = {*stack.containers("gateway"), *stack.containers("jobs")}
    ids = {stack.inspect(name)["Id"] for name in old}
    stack.call("tag", "trustscale-gateway:local", "trustscale-gateway:next")
    stack.configure(IMAGE_TAG="next")
    with traffic(stack):
        jobs = [client.submit() for _ in range(4)]
        stack.shell(f"COMPOSE_PROJECT_NAME={PROJECT} sh {ROOT}/deploy/upgrade.sh", tmp_path)
    assert {client.finished(job)["state"] for job in jobs} == {"succeeded"}
    for service in ("gateway", "jobs"):
        (name,) = stack.containers(service)
        made = stack.inspect(name)
        assert made["Config"]["Image"].endswith(":next")
        assert made["Id"] not in ids
    assert client.calibrations() == before
    assert client.get(result).status_code == 200
