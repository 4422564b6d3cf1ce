"""What a release publishes, made in a clean clone, tried, and put into one folder; pushes nothing.

    python -m deploy.release [gateway worker …|none]

The names are images to build, where docker or buildah is installed. All else is made by the
commands of .github/workflows/release.yml. The folder is release/VERSION, and what is tried lies in
it; at the end the commands are printed that publish it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from deploy.images.build import has_docker
from deploy.licences import ALLOWED, licences_of
from harness.blocks import blocks_of
from harness.servers import free_port

ROOT: Final = Path(__file__).parents[1]
VENV: Final = ROOT / ".venv"

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
LOCKS: Final = ("gateway", "gateway-extras", "worker")


def main(images: list[str]) -> None:
    """Make and try everything; print what a person would push."""
    with tempfile.TemporaryDirectory(prefix="trustscale-release-") as folder:
        clone, tried = Path(folder) / "clone", Path(folder) / "tried"
        tried.mkdir()
        run("git", "clone", "--quiet", ROOT, clone)
        version = same_version(clone)
        made(clone, "dist", "package", "docs")
        report("made in a clean clone: dist, package, sbom, site")
        rebuilt(clone)
        licences(clone)
        ready = ROOT / "release" / version
        shutil.rmtree(ready, ignore_errors=True)
        for part in ("dist", "package", "sbom", "site"):
            shutil.copytree(clone / part, ready / part)
        service, client = installed(clone, ready, tried)
        readme(clone, tried, service, client)
        pythons(clone, ready, tried)
        stack(ready)
        chart(clone, ready, version)
        kept = built(clone, ready, version, images)
        commit = run("git", "rev-parse", "--short", "HEAD", cwd=clone).strip()
        print(f"\nAll of {version} is in {ready.relative_to(ROOT)}:\n")
        print("\n".join(sizes(ready)))
        print("\nTo publish it push one tag, and the workflow makes the same and does the rest:\n")
        print(f"  git tag v{version} {commit} && git push origin v{version}")
        print("\nor by hand, from that folder, with REGISTRY such as ghcr.io/OWNER:\n")
        print("\n".join(commands(version, kept)))


def run(*command: str | Path, cwd: Path = ROOT, text: str | None = None) -> str:
    """The output of a command; a failure ends everything with its last lines."""
    # What is tried is what was installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd, input=text, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        called = " ".join(map(str, command))[:200]
        sys.exit(f"release-check: {called} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def report(what: str) -> None:
    """Print what holds."""
    print(f"ok  {what}", flush=True)


def made(clone: Path, *targets: str) -> None:
    """Targets of the Makefile in the clone, with the tools of this environment."""
    kept = [word for name in ("install", f"{VENV}/.install") for word in ("-o", name)]
    run("make", "--no-print-directory", f"VENV={VENV}", *kept, *targets, cwd=clone)


def same_version(clone: Path) -> str:
    """The version, which every part and the changelog must name."""
    places = {
        "app/trustscale_server/__init__.py": r'^__version__ = "(.+)"',
        "client/trustscale/__init__.py": r'^__version__ = "(.+)"',
        "deploy/chart/Chart.yaml": r'^(?:appVersion|version): "?([^"\n]+)"?',
        "docs/openapi.json": r'^  "version": "(.+)"',
        "CHANGELOG.md": r"^## (\d\S*)",
    }
    found = {
        version
        for place, pattern in places.items()
        for version in re.findall(pattern, (clone / place).read_text("utf-8"), re.MULTILINE)
    }
    if len(found) != 1:
        sys.exit(f"release-check: the versions differ: {', '.join(sorted(found))}")
    report(f"one version: {(version := found.pop())}")
    return version


def rebuilt(clone: Path) -> None:
    """Each source distribution gives the same wheel."""
    with tempfile.TemporaryDirectory() as folder:
        for source in (clone / "dist").glob("*.tar.gz"):
            command = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder)
            run(clone / ".venv-build/bin/python", *command, source)
        for again in Path(folder).glob("*.whl"):
            first, second = contents(clone / "dist" / again.name), contents(again)
            if first != second:
                sys.exit(f"release-check: {again.name} from its sources differs")
    report("the wheels of the source distributions are the same")


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel, with their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


def installed(clone: Path, ready: Path, tried: Path) -> tuple[Path, Path]:
    """The programs of fresh environments for service and client."""
    uv, wheels = VENV / "bin/uv", ready / "dist"
    service, client = tried / "service", tried / "client"
    for place in (service, client):
        run(uv, "venv", "--quiet", place)
    into = (uv, "pip", "install", "--quiet", "--python")
    lock = clone / "requirements/gateway.lock"
    run(*into, service, "--require-hashes", "--no-deps", "--requirement", lock)
    run(*into, service, "--no-deps", next(wheels.glob("trustscale-*.whl")))
    run(*into, client, next(wheels.glob("trustscale_client-*.whl")))
    for place in (service, client):
        run(uv, "pip", "check", "--quiet", "--python", place)
    report("service (by its lock) and client are installed in fresh environments, and complete")
    return service / "bin", client / "bin"


def readme(clone: Path, tried: Path, service: Path, client: Path) -> None:
    """Run the first pages' commands by the service's wheel, their program by the client's."""
    port = str(free_port())
    shutil.copytree(clone / "examples", tried / "examples")
    script = ["trap 'kill $(jobs -p)' EXIT", f"export TRUSTSCALE_DATA_DIR={tried}/data"]
    pages = (ROOT / "README.md", ROOT / "docs/for-developers.md")
    for block in (block for page in pages for block in blocks_of(page)):
        if block.kind == "sh":
            kept = [line for line in block.commands if not line.startswith("make ")]
            # Of a container: tests/stack runs it.
            script += [] if any(line.startswith("docker ") for line in kept) else kept
        elif block.kind == "python":
            script += [f"{client}/python <<'END'", block.text, "END"]
    text = "\n".join(script).replace("8000", port).replace(".venv/bin", str(service))
    text = text.replace("serve &", f"serve --port {port} >serve.log 2>&1 &")
    run("bash", "-euo", "pipefail", cwd=tried, text=text)
    report("the first pages' commands ran: upscale, a folder, serve, curl, the Python client")


def pythons(clone: Path, ready: Path, tried: Path) -> None:
    """Try the wheel on every release of Python that is here, by `uvx` and by `pipx`."""
    uv, wheel = VENV / "bin/uv", next((ready / "dist").glob("trustscale-*.whl"))
    lock, picture = clone / "requirements/gateway.lock", clone / "examples/coast.png"
    seen, missing = [], []
    for release in PYTHONS:
        if not here(uv, release):
            missing.append(release)
            continue
        place = tried / release
        run(uv, "venv", "--quiet", "--no-python-downloads", "--python", release, place)
        into = (uv, "pip", "install", "--quiet", "--no-deps", "--python", place)
        run(*into, "--require-hashes", "--requirement", lock)
        run(*into, wheel)
        program = ("env", f"TRUSTSCALE_DATA_DIR={place}/data", place / "bin/trustscale")
        run(*program, "upscale", picture, "--out", place / "large", cwd=tried)
        seen.append(release)
    report(f"one picture was enlarged with Python {', '.join(seen)}")
    if missing:
        print(f"--  Python {', '.join(missing)}: not here, so not tried")
    said = run(
        uv, "tool", "run", "--quiet", "--isolated", "--from", wheel, "trustscale", "--version"
    )
    report(f"uvx --from {wheel.name} trustscale: {said.strip()}")
    pipx = ("env", f"PIPX_HOME={tried}/pipx", uv, "tool", "run", "--quiet", "--isolated", "pipx")
    said = run(*pipx, "run", "--quiet", "--spec", wheel, "trustscale", "--version")
    report(f"pipx run --spec {wheel.name} trustscale: {said.strip()}")


def here(uv: Path, release: str) -> bool:
    """Whether an interpreter is installed."""
    found = subprocess.run(
        [str(uv), "python", "find", "--no-python-downloads", release],
        capture_output=True,
        check=False,
    )
    return found.returncode == 0


def stack(ready: Path) -> None:
    """The compose file and its `.env.example` name the images of this release."""
    if shutil.which("docker-compose") is None:
        print("--  compose.yaml: docker-compose is not here, so it is not looked at")
        return
    files = ("--file", ready / "package/compose.yaml", "--env-file", ready / "package/.env.example")
    found = run("docker-compose", *files, "config", "--images").split()
    ours = {image for image in found if "trustscale" in image}
    if not ours or not all(image.endswith(f":{ready.name}") for image in ours):
        sys.exit(f"release-check: compose.yaml asks for other images: {', '.join(sorted(ours))}")
    report(f"compose.yaml with its .env.example starts {', '.join(sorted(ours))}")


def chart(clone: Path, ready: Path, version: str) -> None:
    """Render the packaged chart without values, and with each of its values files."""
    archive = ready / f"package/trustscale-{version}.tgz"
    text = run(VENV / "bin/helm", "template", "trustscale", archive)
    if f"trustscale-gateway:{version}" not in text:
        sys.exit("release-check: the chart asks for other images")
    for values in (clone / "deploy/chart/values").glob("*.yaml"):
        run(VENV / "bin/helm", "template", "trustscale", archive, "--values", values)
    report("the packed chart is rendered without values and with every values file")


def licences(clone: Path) -> None:
    """Check the licences of what images contain; name what is not installed here."""
    names = {
        name
        for lock in LOCKS
        for name in re.findall(
            r"^([a-z0-9-]+)==", (clone / f"requirements/{lock}.lock").read_text(), re.MULTILINE
        )
    }
    unseen, refused = [], []
    for name in sorted(names):
        try:
            stated = set(licences_of(name))
        except metadata.PackageNotFoundError:
            unseen.append(name)
            continue
        if not stated or stated - ALLOWED:
            refused.append(f"{name} ({', '.join(sorted(stated)) or 'none stated'})")
    if refused:
        sys.exit(f"release-check: licences to look at: {'; '.join(refused)}")
    report(f"licences of {len(names) - len(unseen)} packages allow to pass them on")
    if unseen:
        print(f"--  not installed here, so not looked at: {', '.join(unseen)}")


def built(clone: Path, ready: Path, version: str, images: list[str]) -> list[str]:
    """The images as archives in the folder, if an engine is installed; returns their names."""
    if images == ["none"]:
        print("--  images: left out, as asked")
        return []
    if not (has_docker() or shutil.which("buildah")):
        print("--  images: NOT built, because neither docker nor buildah is here")
        return []
    made(clone, "images", f"TARGETS={' '.join(images)} --tag {version}")
    (ready / "images").mkdir()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for image in images:
        name, file = f"trustscale-{image}:{version}", f"trustscale-{image}-{machine}.tar"
        engine = "docker" if has_docker() else "podman"
        run(engine, "save", "--output", ready / "images" / file, name)
    report(f"images are built for {machine}: {', '.join(images)}")
    print("--  images of other machines: not built here; the workflow builds amd64 and arm64")
    return images


def sizes(ready: Path) -> Iterator[str]:
    """What lies in the folder."""
    for part in sorted(ready.iterdir()):
        files = [file for file in part.rglob("*") if file.is_file()]
        names = (
            ", ".join(sorted(file.name for file in files))
            if len(files) < 10
            else f"{len(files)} files"
        )
        yield f"  {part.name:8} {sum(file.stat().st_size for file in files) / 1e6:7.1f} MB  {names}"


def commands(version: str, images: list[str]) -> Iterator[str]:
    """What publishes the folder."""
    yield "  uv publish dist/*"
    for image in images:
        yield f"  docker load --input images/trustscale-{image}-*.tar"
        yield f"  docker tag trustscale-{image}:{version} $REGISTRY/trustscale-{image}:{version}"
        yield f"  docker push $REGISTRY/trustscale-{image}:{version}"
    yield f"  helm push package/trustscale-{version}.tgz oci://$REGISTRY/charts"
    yield (
        f"  gh release create v{version} package/compose.yaml package/.env.example "
        "package/upgrade.sh sbom/*.json --generate-notes"
    )


if __name__ == "__main__":
    main(sys.argv[1:] or ["gateway"])
