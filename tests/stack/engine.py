"""A container engine with compose: docker, or podman with podman-compose."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.images.build import has_docker
from harness.servers import ServerMissing, free_port
from harness.waiting import block_until

ROOT = Path(__file__).parent.parent.parent
PROJECT = "trustscale-stack-test"
CORE = ("proxy", "gateway", "jobs", "redis")


class Engine:
    def __init__(self):
        if not has_docker() and not shutil.which("podman"):
            raise ServerMissing("neither docker nor podman is installed")
        self.name = "docker" if has_docker() else "podman"
        self._environment = {
            **{name: value for name, value in os.environ.items() if "_KEY" not in name},
            "CONTAINERS_CONF": str(ROOT / "deploy" / "images" / "containers.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def call(self, *words):
        return self._run(self.name, *words)

    def inspect(self, name):
        return json.loads(self.call("inspect", name))[0]

    def is_healthy(self, name):
        state = self.inspect(name)["State"]
        health = state.get("Health") or state.get("Healthcheck") or {}
        return bool(state["Running"]) and health.get("Status") in {"healthy", None, ""}

    def _run(self, *words):
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
            env=self._environment,
            cwd=ROOT,
        )
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-4000:]}"
        return done.stdout


class Stack(Engine):
    """The containers of one project. Everything of it is removed by `down`."""

    def __init__(self, folder):
        super().__init__()
        docker = self.name == "docker"
        self._compose = (
            ["docker", "compose"] if docker else [sys.executable, "-m", "podman_compose"]
        )
        self.files = ["docker-compose.yml"]
        self.env_file = folder / ".env"
        self.http_port = free_port()
        self.settings = {}
        self._profiles = ()
        self._stopped = threading.Event()
        # Podman has health checks run by timers of systemd; where there is none, somebody must.
        if not docker and not Path("/run/systemd/system").exists():
            threading.Thread(target=self._check_health, daemon=True).start()

    def configure(self, **settings):
        """Fill in `.env.example`, as a user does; later calls change single lines."""
        self.settings |= {"HTTP_PORT": str(self.http_port), **settings}
        self.settings.setdefault("HTTPS_PORT", str(free_port()))
        lines = []
        for line in (ROOT / ".env.example").read_text("utf-8").splitlines():
            name = line.partition("=")[0]
            lines.append(f"{name}={self.settings[name]}" if name in self.settings else line)
        known = {line.partition("=")[0] for line in lines}
        lines += [f"{name}={value}" for name, value in self.settings.items() if name not in known]
        self.env_file.write_text("\n".join(lines) + "\n", "utf-8")

    @property
    def admin_key(self):
        """The key that opens: in a file, where there is one, or else in `.env`."""
        folder = self.settings.get("SECRETS_DIR")
        kept = self.settings["TRUSTSCALE_ADMIN_KEYS"]
        return Path(folder, "admin_keys").read_text("utf-8") if folder else kept

    def compose(self, *words):
        self._run(*self._composing(), *words)

    def _composing(self):
        return [
            *self._compose,
            *("--project-name", PROJECT, "--env-file", str(self.env_file)),
            *(word for file in self.files for word in ("--file", str(ROOT / file))),
            *(word for profile in self._profiles for word in ("--profile", profile)),
        ]

    def shell(self, script, folder):
        """Run commands of the docs in a folder, with this engine as `docker`, on this project."""
        compose = shlex.join(self._composing())
        docker = folder / "bin" / "docker"
        docker.parent.mkdir(exist_ok=True)
        docker.write_text(
            f'#!/bin/sh\nif [ "$1" = compose ]; then shift; cd {ROOT}; exec {compose} "$@"; fi\n'
            f'exec {shutil.which(self.name)} "$@"\n'
        )
        docker.chmod(0o755)
        script = script.replace("trustscale_", f"{PROJECT}_")
        line = f"set -e; PATH={docker.parent}:$PATH; cd {folder}; PWD={folder}\n{script}"
        self._run("sh", "-c", line)

    def up(self, *services, profiles=(), **scale):
        """Start what is named (else the core), and wait until all of it is healthy.

        profiles: from now on.
        """
        self._profiles += profiles
        names = services or CORE
        words = [f"--scale={service}={number}" for service, number in scale.items()]
        # podman-compose takes one --scale at a time, and leaves those beyond it as they are.
        for word in words or [""]:
            flags = [word] if word else []
            started = ("proxy-volumes", "secrets", *names)
            self.compose("up", "--detach", "--no-build", *flags, *started)
        for service in names:
            for name in self.containers(service)[scale.get(service, 1) :]:
                self.call("rm", "--force", name)
        block_until(lambda: all(self.is_healthy(name) for name in self.containers()))

    def down(self):
        self._stopped.set()
        for name in self.containers(every=True):
            # One that another waits for is removed with it.
            depend = ["--depend"] if self.name == "podman" else []
            with suppress(AssertionError):
                self.call("rm", "--force", *depend, name)
        for kind in ("network", "volume"):
            listed = self.call(kind, "ls", "--format", "{{.Name}}").split()
            for name in listed:
                if name.startswith(f"{PROJECT}_"):
                    self.call(kind, "rm", name)

    def containers(self, service="", *, every=False):
        """The names of the containers that run, of one service or all; `every`: or have ended."""
        label = "com.docker.compose"
        filters = ["--filter", f"label={label}.project={PROJECT}"]
        if service:
            filters += ["--filter", f"label={label}.service={service}"]
        listed = self.call("ps", *(["--all"] if every else []), *filters, "--format", "{{.Names}}")
        return sorted(listed.split())

    def kill(self, name):
        """Kill -9 the first process from outside, as the kernel would; the engine restarts it."""
        os.kill(int(self.inspect(name)["State"]["Pid"]), signal.SIGKILL)

    @contextmanager
    def cut_off(self, name):
        """Lose every packet to a container; nobody is told, as after the loss of a node."""
        inside = ("nsenter", "--net", "--target", str(self.inspect(name)["State"]["Pid"]))
        rule = ("INPUT", "!", "--in-interface", "lo", "--jump", "DROP")
        self._run(*inside, "iptables", "--insert", *rule)
        try:
            yield
        finally:
            self._run(*inside, "iptables", "--delete", *rule)

    def redis(self, *words):
        """What the stack's Redis answers to a command."""
        (name,) = self.containers("redis")
        asked = "REDISCLI_AUTH=$(cut -d' ' -f2 /tmp/password.conf) redis-cli"
        return self.call("exec", name, "sh", "-c", f"{asked} {shlex.join(words)}")

    def _check_health(self):
        while not self._stopped.wait(2):
            with suppress(AssertionError):
                for name in self.containers():
                    with suppress(AssertionError):  # unhealthy is an answer
                        self.call("healthcheck", "run", name)
