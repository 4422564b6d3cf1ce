"""Runs commands of the pages in a fresh clone, as somebody does who has followed README so far.

    python3 deploy/docs/fresh.py [FOLDER]

It clones this checkout (to FOLDER, else to a temporary one), runs `make demo` there, which is what
README asks for, and starts the service with README's own command. Then the blocks of some pages run
as they stand, with the models that are shipped; only the port differs. Of what a page supposes
there are the reader's pictures alone. What a block needs besides stands in `NEEDS`, and on its
page. Standard library only: the clone's environment has no tools for tests.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.blocks import Block, blocks_of  # noqa: E402 - found by the line above

PAGES = ("README.md", *(f"docs/{name}.md" for name in ("for-photographers", "for-developers")))
PAGES += ("docs/command-line.md", "docs/http.md", "docs/evidence.md")

NEEDS = {
    "make ": "run before",
    "pip ": "an extra or another distribution, which the block itself installs",
    "trustscale calibrate": "40 photographs and an hour; tests/docs/test_blocks.py runs it small",
    "trustscale connect": "a model of the reader's",
    "python -m benchmarks": "photographs, and minutes to hours",
    "apt-get download": "Debian's archive",
    "for package in": "likewise",
    "docker ": "a container engine",
    "curl -F image=@true.png": "the id of a result of the reader's",
}
RUN = {"pip install . ./evaluation"}  # the last page: no other one gets what it installs
PATIENCE_S = 120.0


def main() -> int:
    """Run the pages; 1 if a block failed, which is named."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/clone").resolve()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        subprocess.run(["make", "--quiet", "demo"], cwd=clone, check=True)
        port = free_port()
        names = [name for name in os.environ if not name.startswith("TRUSTSCALE_")]
        env = {name: os.environ[name] for name in names if name != "PYTHONPATH"}
        env |= {"HOME": f"{temporary}/home", "PATH": f"{clone}/.venv/bin:{env['PATH']}"}
        Path(env["HOME"]).mkdir()
        served = [clone / ".venv/bin/trustscale", "serve", "--port", str(port)]
        with subprocess.Popen(served, cwd=clone, env=env, start_new_session=True) as service:
            try:
                wait(port)
                failed = []
                for page in PAGES:
                    clean(clone)
                    failed += [
                        b.where for b in blocks_of(ROOT / page) if not runs(b, clone, env, port)
                    ]
            finally:
                os.killpg(service.pid, signal.SIGTERM)
    print(*(f"failed: {where}" for where in failed), sep="\n")
    print(f"{len(failed)} blocks failed")
    return int(bool(failed))


def clean(clone: Path) -> None:
    """Leave in the clone what README's set-up did, and the reader's pictures by their names."""
    kept = ("--exclude=.venv", "--exclude=*.egg-info")
    subprocess.run(["git", "clean", "--quiet", "-fdx", *kept], cwd=clone, check=True)
    for name in ("photos", "PHOTOS"):
        shutil.copytree(clone / "examples" / "repainted", clone / name)
        shutil.copy(clone / "examples" / "coast.png", clone / name)
    for name in ("photo.png", "old.png"):
        shutil.copy(clone / "examples" / "dog.png", clone / name)
    convert = "from PIL import Image; Image.open('photo.png').convert('RGB').save('photo.jpg')"
    subprocess.run([clone / ".venv/bin/python", "-c", convert], cwd=clone, check=True)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def wait(port: int) -> None:
    """Wait for the service. Raises TimeoutError."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("the service does not answer")


def runs(block: Block, clone: Path, env: dict[str, str], port: int) -> bool:
    """Run a block; whether it ended as its page says."""
    if block.kind not in {"sh", "console", "python"}:
        return True
    here = re.sub(r"(127\.0\.0\.1|localhost):8000", rf"\g<1>:{port}", block.text)
    given = block._replace(text=here)
    if block.kind == "python":
        command, said = [str(clone / ".venv/bin/python"), "-"], here
    else:
        kept = [line for line in given.commands if not is_left_out(line)]
        command, said = ["bash", "-euo", "pipefail"], "\n".join(kept)
    if not said.strip():
        return True
    print(f"{block.where}\n{said}", flush=True)
    done = subprocess.run(
        command, input=said, cwd=clone, env=env, text=True, capture_output=True, check=False
    )
    if (done.returncode == 0) != block.refused:
        return True
    print(done.stdout[-1500:], done.stderr[-1500:], sep="\n", flush=True)
    return False


def is_left_out(line: str) -> bool:
    """Whether a command is not for here, by how it begins; the service runs already."""
    start = line.strip().removeprefix(".venv/bin/")
    return start not in RUN and start.startswith(("trustscale serve", *NEEDS))


if __name__ == "__main__":
    sys.exit(main())
