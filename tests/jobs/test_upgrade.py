"""A rolling upgrade: processes of the commit before beside those of this one, killed at any time.

Both kinds share Redis and blobs. Everything that was accepted is done, whoever accepted it.
"""

import io
import os
import random
import sys
import tarfile
import tomllib
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from harness.factories import encoded, photo
from harness.servers import ProcessGroup, free_port, ran
from harness.waiting import PATIENCE_S, until
from tests.missing import not_here

pytestmark = [pytest.mark.slow, pytest.mark.servers]

ROOT = Path(__file__).parents[2]
PLACES = ("gateway a", "gateway b", "jobs a", "jobs b")
IMAGE = encoded(photo(7, 32, 32))


@pytest.fixture
def before(tmp_path):
    """The sources of the commit before; of this one where the history is not here."""
    for commit in ("HEAD^", "HEAD"):
        archive = tmp_path / "before.tar"
        made = ran("git", "archive", "--output", archive, commit, cwd=ROOT)
        if made.returncode == 0:
            with tarfile.open(archive) as tar:
                tar.extractall(tmp_path / "before", filter="data")
            return tmp_path / "before"
    return not_here("this is no git repository")


@dataclass
class Fleet:
    """Gateways and job workers by place, each of a release: a folder of sources."""

    folder: Path
    redis_url: str
    stack: ExitStack
    running: dict[str, ProcessGroup] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.client = self.stack.enter_context(httpx.Client(timeout=PATIENCE_S, trust_env=False))

    def start(self, release, *places):
        """Start processes beside each other, and wait until they are there."""
        urls = {place: self.begin(place, release) for place in places}
        for place, url in urls.items():
            self.running[place].wait_for(f"{url}/healthz", place)
            self.urls[place] = url

    def begin(self, place, release):
        """Start a process; where it will listen."""
        project = tomllib.loads((release / "pyproject.toml").read_text())
        module, _, function = project["project"]["scripts"]["trustscale"].partition(":")
        sources = project["tool"]["pytest"]["ini_options"]["pythonpath"]
        port = free_port()
        listens = ["serve", "--port", str(port)]
        if place.startswith("jobs"):
            listens = ["jobs", "--metrics-port", str(port)]
        process = ProcessGroup(
            [sys.executable, "-c", f"from {module} import {function}; {function}()", *listens],
            log=self.folder / f"{place}.log",
            env={
                "PYTHONPATH": os.pathsep.join(str(release / name) for name in (*sources, ".")),
                "TRUSTSCALE_STORE": self.redis_url,
                "TRUSTSCALE_QUEUE": self.redis_url,
                "TRUSTSCALE_BLOBS": f"file://{self.folder}/blobs",
                "TRUSTSCALE_DATA_DIR": str(self.folder / place),
                "TRUSTSCALE_ADMIN_KEYS": "admin-key",
                "TRUSTSCALE_UPSCALERS": '[{"name": "up", "kind": "embedded", "threads": 1}]',
            },
        )
        self.running[place] = self.stack.enter_context(process)
        return f"http://127.0.0.1:{port}"

    def ask(self, method, path, **options):
        """An answer of a gateway that is there, as a client's proxy finds one."""
        urls = [url for place, url in self.urls.items() if place.startswith("gateway") and url]
        for url in random.sample(urls, len(urls)):
            with suppress(httpx.TransportError):
                return self.client.request(method, url + path, **options)
        raise AssertionError("no gateway answers")

    def submit(self, number):
        """Leave a job; its path."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": f"picture {number}"}
        files, fields = {"image": ("photo.png", IMAGE)}, {"mask": "none", "seed": str(number)}
        sent = self.ask("POST", "/v1/upscale", files=files, data=fields, headers=headers)
        assert sent.status_code == 202, sent.text
        return sent.headers["location"]

    def states(self, jobs):
        return [self.ask("GET", job).json()["state"] for job in jobs]


async def test_under_kills(before, redis_url, tmp_path):
    jobs = []
    with ExitStack() as stack:
        fleet = Fleet(tmp_path, redis_url, stack)
        runs = dict.fromkeys(PLACES, before)
        fleet.start(before, *PLACES)
        first, second, third, fourth = random.sample(PLACES, 4)
        # At half of the way, where an upgrade may stop for long, old and new ones die, too.
        half = [(place, None) for place in random.choice([(first, third), (second, fourth)])]
        for place, release in ((first, ROOT), (second, ROOT), *half, (third, ROOT), (fourth, ROOT)):
            new = [fleet.submit(len(jobs) + number) for number in range(2)]
            jobs += new
            await until(lambda some=new: {*fleet.states(some)} & {"running", "succeeded"})
            fleet.running[place].kill()
            fleet.urls[place] = ""
            runs[place] = release or runs[place]
            fleet.start(runs[place], place)
        await until(lambda: {*fleet.states(jobs)} <= {"succeeded", "failed", "expired"})
        assert fleet.states(jobs) == ["succeeded"] * len(jobs)
        assert [fleet.submit(number) for number in range(len(jobs))] == jobs
        for job in jobs:
            result = fleet.ask("GET", fleet.ask("GET", job).json()["result"]).json()
            image = fleet.ask("GET", result["links"]["image"])
            assert image.status_code == 200
            assert io.BytesIO(image.content).read(4) == b"\x89PNG"
