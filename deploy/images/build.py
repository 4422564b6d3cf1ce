"""Builds the images with docker or buildah, and prints size, layers and time of each.

    python deploy/images/build.py [gateway worker …] [--base IMAGE] [--engine docker|buildah]
    python deploy/images/build.py worker --torch "--index-url https://download.pytorch.org/whl/cpu"
    python deploy/images/build.py worker --torch "--find-links /torch" --wheels FOLDER

Without the official base image, buildah makes one of Debian's packages (deploy/images/base.sh).
Sizes are those above the base; one a tenth above its figure in docs/deployment.md fails the build
(a worker with CUDA has no figure).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BASE = "python:3.13-slim-trixie"
TARGETS = ("gateway", "worker")
GROWTH = 1.1
LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=90000:90000")


def main() -> int:
    """Build the images; exit code 1 when one has outgrown its figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", default=["gateway"], metavar="TARGET")
    parser.add_argument("--engine", default="docker" if has_docker() else "buildah")
    parser.add_argument("--base", help=f"default: {BASE}, or one made of Debian's packages")
    parser.add_argument("--tag", default="local")
    parser.add_argument("--torch", help="where the worker's torch comes from, in pip's words")
    parser.add_argument("--wheels", help="a folder that the build sees as /torch; buildah only")
    options = parser.parse_args()
    if shutil.which(options.engine) is None:
        print("images: neither docker nor buildah is installed.", file=sys.stderr)
        return 2
    os.environ["CONTAINERS_CONF"] = str(ROOT / "deploy" / "images" / "containers.conf")
    base = options.base or _base(options.engine)
    known, outgrown = figures(), []
    if not options.torch:
        known.pop("worker", None)  # its figure is that of torch for CPUs
    print(f"{'image':10}{'MB above base':>15}{'layers':>8}{'seconds':>9}")
    for target in options.targets:
        began = time.monotonic()
        name = f"trustscale-{target}:{options.tag}"
        _build(options, target, name, base)
        size, layers = _inspect(options.engine, name)
        above = (size - _inspect(options.engine, base)[0]) / 1e6
        print(f"{target:10}{above:15.0f}{layers:8}{time.monotonic() - began:9.0f}")
        if above > GROWTH * known.get(target, above):
            outgrown.append(f"{target}: {above:.0f} MB, {known[target]:.0f} MB in the docs")
    if outgrown:
        print("images: outgrown: " + "; ".join(outgrown), file=sys.stderr)
    return 1 if outgrown else 0


def has_docker() -> bool:
    """Whether docker runs, not only its client."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def figures() -> dict[str, float]:
    """The sizes in MB of docs/deployment.md, by image."""
    text = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    return {
        name: float(size.replace(",", ""))
        for name, size in re.findall(r"^\| `trustscale-(\w+)` \| ([\d,]+) MB", text, re.MULTILINE)
    }


def _base(engine: str) -> str:
    """The official base, or one made here."""
    if engine == "docker":
        return BASE
    pulled = subprocess.run(
        ["buildah", "pull", "--quiet", f"docker.io/library/{BASE}"],
        capture_output=True,
        check=False,
    )
    if pulled.returncode == 0:
        return f"docker.io/library/{BASE}"
    subprocess.run(["sh", str(ROOT / "deploy" / "images" / "base.sh")], check=True)
    return f"localhost/{BASE}"


def _build(options: argparse.Namespace, target: str, name: str, base: str) -> None:
    command = [options.engine, "build", "--target", target, "--tag", name]
    command += ["--build-arg", f"PYTHON_IMAGE={base}"]
    if options.torch:
        command += ["--build-arg", f"TORCH={options.torch}"]
    if options.wheels:
        command += ["--volume", f"{Path(options.wheels).resolve()}:/torch:ro"]
    if options.engine == "buildah":
        # Docker's format, or the health check would be lost.
        command += ["--format", "docker", "--isolation", "chroot", "--network", "host", "--layers"]
        command += LIMITS
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"images: {target} was not built:\n{(done.stdout + done.stderr)[-4000:]}")


def _inspect(engine: str, name: str) -> tuple[int, int]:
    """Bytes and number of layers of an image."""
    command = ["docker"] if engine == "docker" else ["podman"]
    done = subprocess.run(
        [*command, "image", "inspect", name], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)[0]
    return int(found["Size"]), len(found["RootFS"]["Layers"])


if __name__ == "__main__":
    sys.exit(main())
