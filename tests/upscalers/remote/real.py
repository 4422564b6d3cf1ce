"""Real servers in environments of their own, because their pins exclude each other.

An environment's folder is named by the hash of its requirements, so it is made once and made anew
when they change. Nothing here needs pytest, so benchmarks use it too.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import httpx

from harness.servers import ProcessGroup, ServerMissing, free_port

APPS = Path(__file__).parent / "apps"
HOME = Path(__file__).parents[3] / ".servers"

REQUIREMENTS = {
    "cog": ("cog==0.23.1", "numpy==2.2.6", "pillow==11.3.0"),
    "bentoml": ("bentoml==1.4.40", "numpy==2.2.6", "pillow==11.3.0"),
    "gradio": ("gradio==6.31.0",),
    "pytriton": ("nvidia-pytriton==0.7.0", "pillow==11.3.0"),
    # No server, but large: tests/client has the plugin.
    "napari": ("napari[pyqt6]==0.9.2", "httpx==0.28.1", "hatchling==1.33.0"),
}


def environment(name):
    """The `bin` folder of a server's own environment; made when missing.

    Raises ServerMissing when it cannot be made.
    """
    wanted = REQUIREMENTS[name]
    digest = hashlib.sha256("".join(f"{line}\n" for line in wanted).encode()).hexdigest()[:12]
    folder = HOME / f"{name}-{digest}"
    HOME.mkdir(exist_ok=True)
    # Of several test processes one installs and the others wait.
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            _install(folder, wanted)
    return folder / "bin"


def _install(folder, wanted):
    """Make the environment; whatever an interrupted run left of it is worth nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is not None:  # seconds instead of minutes
        steps = [
            [uv, "venv", "--quiet", "--seed", "--python", sys.executable, folder],
            [uv, "pip", "install", "--quiet", "--python", python, *wanted],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", folder],
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted],
        ]
    for step in steps:
        made = subprocess.run(
            [str(part) for part in step], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise ServerMissing(f"cannot install {folder.name}: {made.stderr.strip()[-300:]}")
    (folder / ".complete").touch()


class RealServer:
    """One running server; use as a context manager."""

    def __init__(self, name, **extra_env):
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = Path(tempfile.mkdtemp(prefix=f"trustscale-{name}-"))
        command, ready, env = self._recipe(environment(name))
        env |= {
            "PORT": str(self.port),
            "PYTHONPATH": str(APPS),
            "PYTHONDONTWRITEBYTECODE": "1",
            **extra_env,
        }
        self.group = ProcessGroup(command, log=self._folder / "log", env=env)
        try:
            with httpx.Client(base_url=self.url, timeout=2, trust_env=False) as client:
                self.group.wait_until(lambda: self._answers(client, ready), name)
        except BaseException:
            self.close()
            raise

    def _recipe(self, bin_):
        """Command, path that answers 200 when ready, environment."""
        python, port = bin_ / "python", str(self.port)
        if self.name == "cog":
            env = {
                # The worker process is spawned as plain `python`, so PATH decides which one it is.
                "PATH": f"{bin_}:{os.environ['PATH']}",
                "COG_PREDICT_TYPE_STUB": "run.py:Upscaler",
                "COG_MAX_CONCURRENCY": "4",
                "COG_LOG_LEVEL": "warning",
            }
            command = [
                "sh", "-c", 'cd "$0" && exec "$@"', APPS / "cog",
                python, "-m", "cog.server.http", "--host", "127.0.0.1",
            ]  # fmt: skip
            return command, "/health-check", env
        if self.name == "bentoml":
            env = {"BENTOML_DO_NOT_TRACK": "1", "BENTOML_HOME": str(self._folder)}
            command = [
                bin_ / "bentoml", "serve", "bento:Upscaler", "--working-dir", APPS,
                "--host", "127.0.0.1", "--port", port,
            ]  # fmt: skip
            return command, "/readyz", env
        if self.name == "gradio":
            files = str(self._folder / "files")
            env = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1",
                   "GRADIO_TEMP_DIR": files}  # fmt: skip
            return [python, APPS / "gradio_app.py"], "/config", env
        if self.name == "pytriton":
            # Triton's stub must load the very libpython of the interpreter.
            env = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
            return [python, APPS / "triton.py"], "/v2/models/encoded/ready", env
        raise ValueError(self.name)

    def _answers(self, client, path):
        try:
            reply = client.get(path)
        except httpx.TransportError:
            return False
        starting = self.name == "cog" and '"STARTING"' in reply.text
        return reply.status_code == 200 and not starting

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stop the whole process group; some servers leave children behind."""
        self.group.stop(5.0)
        shutil.rmtree(self._folder, ignore_errors=True)
