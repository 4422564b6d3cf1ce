"""What a release publishes, made in a clean clone and tried in fresh environments; pushes nothing.

    python deploy/release.py [gateway worker …|none]

The names are images to build, where docker or buildah is installed. All else is made by the
commands of .github/workflows/release.yml.
"""

from __future__ import annotations

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
from harness.blocks import blocks_of
from harness.servers import free_port

ROOT: Final = Path(__file__).parents[1]
VENV: Final = ROOT / ".venv"

# Licences of what is passed on in images, in the words of SPDX and of older metadata. None asks for
# more than a notice; MPL-2.0 only for changes of its own files. NVIDIA's libraries beside torch are
# no free software: building a worker's image with CUDA accepts their terms.
ALLOWED: Final = {
    "0BSD", "3-Clause BSD License", "Apache 2.0 License", "Apache Software License", "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception", "BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC License (ISCL)", "MIT", "MIT License", "MIT-0",
    "MIT-CMU", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "PSF-2.0",
    "Python Software Foundation License", "Zlib",
}  # fmt: skip
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
        service, client = installed(clone, tried)
        readme(clone, tried, service, client)
        chart(clone, version)
        licences(clone)
        built(clone, images)
        commit = run("git", "rev-parse", "--short", "HEAD", cwd=clone).strip()
        print(f"\nTo publish {version} a person pushes one tag, and the workflow does the rest:\n")
        print(f"  git tag v{version} {commit} && git push origin v{version}\n")
        print("\n".join(pushed(clone, version)))


def run(*command: str | Path, cwd: Path = ROOT, text: str | None = None) -> str:
    """The output of a command; a failure ends everything with its last lines."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, input=text, capture_output=True, text=True, check=False
    )
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
        "app/__init__.py": r'^__version__ = "(.+)"',
        "trustscale/__init__.py": r'^__version__ = "(.+)"',
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


def installed(clone: Path, tried: Path) -> tuple[Path, Path]:
    """The programs of fresh environments for service and client."""
    uv, wheels = VENV / "bin/uv", clone / "dist"
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
            script += [line for line in block.commands if not line.startswith("make ")]
        elif block.kind == "python":
            script += [f"{client}/python <<'END'", block.text, "END"]
    text = "\n".join(script).replace("8000", port).replace(".venv/bin", str(service))
    text = text.replace("serve &", f"serve --port {port} >serve.log 2>&1 &")
    run("bash", "-euo", "pipefail", cwd=tried, text=text)
    report("the first pages' commands ran: upscale, a folder, serve, curl, the Python client")


def chart(clone: Path, version: str) -> None:
    """Render the packaged chart with each of its values files."""
    for values in (clone / "deploy/chart/values").glob("*.yaml"):
        archive = clone / f"package/trustscale-{version}.tgz"
        run(VENV / "bin/helm", "template", "trustscale", archive, "--values", values)
    report("the packed chart is rendered with every values file")


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


def licences_of(name: str) -> Iterator[str]:
    """The licences that a package names."""
    found = metadata.metadata(name)
    expression = found.get("License-Expression")
    classifiers = [
        classifier.rpartition(" :: ")[2]
        for classifier in found.get_all("Classifier") or []
        if classifier.startswith("License ::")
    ]
    if classifiers and not expression:
        yield from classifiers
    elif stated := expression or (found.get("License") or "").partition("\n")[0]:
        yield from re.split(r" (?:AND|OR) ", stated)


def built(clone: Path, images: list[str]) -> None:
    """The images, if an engine is installed."""
    if images == ["none"]:
        print("--  images: left out, as asked")
    elif not (has_docker() or shutil.which("buildah")):
        print("--  images: NOT built, because neither docker nor buildah is here")
    else:
        made(clone, "images", f"TARGETS={' '.join(images)}")
        report(f"images are built: {', '.join(images)}")


def pushed(clone: Path, version: str) -> Iterator[str]:
    """Every destination, with sizes."""

    def sized(pattern: str) -> str:
        files = sorted(clone.glob(pattern))
        return ", ".join(f"{file.name} ({file.stat().st_size / 1e3:,.0f} kB)" for file in files)

    pages = len(list((clone / "site").rglob("*.html")))
    yield f"  package index    {sized('dist/*')}"
    yield f"  registry         trustscale-gateway:{version}, trustscale-worker:{version}"
    yield f"  registry, chart  {sized('package/*.tgz')}"
    beside = ".env.example, upgrade.sh"
    yield f"  release page     {sized('package/*.yaml')}, {beside}, {sized('sbom/*')}"
    yield f"  site             {pages} pages"


if __name__ == "__main__":
    main(sys.argv[1:] or ["gateway"])
