"""Commands, options and configurations of the documents run as they stand; all is documented."""

import os
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer.main

from harness.admin import label, zipped
from harness.blocks import PAGES, ROOT, blocks_of
from harness.factories import cells, encoded, photo, pictures
from harness.fakes import FakeUpscaler
from harness.gateway import ADMIN_KEY, gateway
from harness.servers import ProcessGroup, ran
from tests.docs.program import write_client
from tests.images.test_raster import raster, stack
from tests.live import serving
from tests.missing import not_here
from tests.workers.ncnn_files import shuffled
from trustscale import Trustscale
from trustscale_evaluation.variants import read_variants
from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.cli.main import app
from trustscale_server.http.app import create_app
from trustscale_server.serving.document import Guarantee, Result
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.remote.presets import preset_names

# Commands that are not run here, by how they begin, and why. Options of ours are checked anyway.
NOT_RUN = {
    "make ": "the whole environment",
    "docker ": "no container engine",
    "cp .env.example": "belongs to docker compose",
    "kubectl ": "no cluster",
    "helm ": "no cluster; tests/deploy renders the chart",
    "pip ": "the package index",
    "apt-get download": "Debian's archive",
    "for package in": "Debian's archive",
    "python3 -m pip ": "the package index",
    "qgis_process ": "QGIS; tests/client",
    "trustscale serve": "the gateway runs already",
    "trustscale jobs &": "a queue on Redis",
    "trustscale stores copy": "a Redis; tests/contract/test_copying.py",
    "export TRUSTSCALE_STORE": "a Redis",
    "export TRUSTSCALE_QUEUE": "a Redis",
    "export TRUSTSCALE_BLOBS": "a shared folder",
    "trustscale connect": "a server of somebody else's; tests/cli/test_usage.py",
    "trustscale worker": "weights that nobody ships, and torch",
    "trustscale evaluate": "the extra evaluate, and hundreds of generations; tests/evaluation",
    "python -m benchmarks": "minutes to hours",
    "trustscale calibrate DIR --metric text": "seconds a picture; tests/api/test_admin_pairs.py",
    "trustscale reduce": "pictures of another scale; tests/cli/test_supplied.py",
    "trustscale calibrate pairs": "a program elsewhere; tests/cli/test_supplied.py",
    "trustscale upscale small.png --enlarged": "likewise",
    "trustscale upscale sign.png --words": "its calibration; tests/cli/test_upscale.py",
}

SHELLS = {"sh", "console"}

GROUPS = {"0001": "night", "0003": "night"}

IMPORTED = "upscayl-lite-4x"  # the model that a page imports

COUNT = 8  # of the photographs: the fewest whose default α can be held, so pages take seconds

# Programs that need a server of another kind.
NOT_EXECUTED = {"serve_forever": "it waits for events; tests/api"}

# What stands for a value, and the variable that holds one here.
_STANDS_FOR = [
    (r"http://(127\.0\.0\.1|localhost):(8000|8080)|https://upscale\.example(\.org)?", "$SERVER"),
    (r"\bcal-([0-9a-f]{20}|…)", "$CALIBRATION"),
    (r"\bres-([\w-]{20}|…)", "$RESULT"),
    (r"(?<= )ID\b", "$CALIBRATION"),
    (r"=…", "=$KEY"),
    (r"\$\(cat ~/\.local/share/trustscale/admin\.key\)", "$KEY"),
    (r"\.venv/bin/", ""),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where pages are tried: a folder with files, and the environment of the shell."""
    if shutil.which("curl") is None:
        not_here("curl is not installed")
    base = tmp_path_factory.mktemp("docs")
    commands, files = base / "bin", base / "files"
    commands.mkdir()
    _make_files(files)
    for name in ("trustscale", "python"):
        write_client(commands, name, base / "socket")
    (commands / "curl").write_text(
        f'#!/bin/sh\nexec {shutil.which("curl")} -sS --fail-with-body "$@"\n'
    )
    (commands / "curl").chmod(0o755)
    (base / "trustscale.toml").write_text(
        "\n".join(f'[[upscalers]]\nname = "{name}"\nkind = "embedded"' for name in _upscalers())
    )
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRUSTSCALE_")},
        "PATH": f"{commands}:{os.environ['PATH']}",
        "TRUSTSCALE_CONFIG": str(base / "trustscale.toml"),
        "TRUSTSCALE_DATA_DIR": str(base / "data"),
        "TRUSTSCALE_KEY": ADMIN_KEY,
        "KEY": ADMIN_KEY,
        "H": f"Authorization: Bearer {ADMIN_KEY}",
    }
    program = [sys.executable, "-m", "tests.docs.program", str(base / "socket")]
    with (
        serving(gateway(base / "gateway", *map(FakeUpscaler, SHIPPED_MODELS))) as address,
        ProcessGroup(program, log=base / "log") as process,
    ):
        process.wait_until((base / "socket").exists, "the program")
        server = f"http://{address}"
        env |= {"SERVER": server, "U": f"{server}/v1/admin/calibrations", **_make_things(server)}
        yield SimpleNamespace(folder=files, env=env)


def _make_files(folder):
    """What the pages bring: photographs with their small versions, uploads, archives, labels."""
    places = [("day", "night")[k % 2] for k in range(COUNT)]
    rows = [f"{place}.{k:04},{place},scene-{k}" for k, place in enumerate(places)]
    table = "\n".join(["name,camera,scene", *rows])
    for top in ("DIR", "photos", "PHOTOS"):
        pictures(folder / top, *(f"y/{place}/{k:04}.png" for k, place in enumerate(places)))
        (folder / top / "manifest.csv").write_text(table)
    pictures(folder / "UPLOADS", "0.jpg", "1.jpg", "2.jpg", side=32)
    for name in ("photo", "old", "examples/coast"):
        pictures(folder, f"{name}.png", side=24, first=50)
    pictures(folder, "true.png", first=50)
    plain, more = _truths(0, COUNT), _truths(106, 2)
    first = plain["y/0000.png"]
    bad = {"y/0000.png": first, "y/copy.png": first, "y/notes.png": b"?"}
    marked = {"labels/0006.png": label(differs=True)}
    photos = {f"y/{places[k]}/{k:04}.png": data for k, data in enumerate(plain.values())}
    photos["manifest.csv"] = table.encode()
    for name, members in {"photos": photos, "more": more, "bad": bad, "labels": marked}.items():
        (folder / f"{name}.zip").write_bytes(zipped(members))
    (folder / "label.png").write_bytes(label(differs=True))
    (folder / "manifest.csv").write_text("name,group\nnight.0001,night\n")
    shuffled(folder / f"{IMPORTED}.param")
    (folder / "CELLS").mkdir()
    for k in range(2 * COUNT):  # the least that their default α can hold
        (folder / "CELLS" / f"{k}.tiff").write_bytes(raster(cells(k, 48)))
    (folder / "cells.tiff").write_bytes(raster(cells(50, 24)))
    (folder / "stack.tiff").write_bytes(stack(np.stack([cells(k, 24)[..., 0] for k in (51, 52)])))
    bands = np.concatenate([cells(k, 24) for k in range(53, 57)], axis=2)
    (folder / "bands.tiff").write_bytes(raster(bands))


def _truths(first, count):
    return {f"y/{k:04}.png": encoded(photo(k, 48, 48)) for k in range(first, first + count)}


def _make_things(server):
    """An active calibration, a job that awaits labels, and a result, by their ids."""
    plain = {f"{k:04}": photo(k, 48, 48) for k in range(COUNT)}
    quick = {"upscaler": "span-x4", "degradation": {}, "samples": 2}
    with Trustscale(server, ADMIN_KEY) as service:
        job = service.calibrate(plain, groups=GROUPS, activate=True, force=True, **quick)
        made = job.wait()
        semantic = {"fidelity": {"metric": "semantic"}, **quick}
        waiting = service.calibrate({"0006": photo(6, 48, 48)}, **semantic)
        waiting.watch()
        result = service.upscale(photo(50, 24, 24), upscaler="span-x4")
    return {"CALIBRATION": made["id"], "JOB": job.id, "WAITING": waiting.id, "RESULT": result.id}


def _upscalers():
    """The default upscaler and all that pages name and do not import."""
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    named = re.findall(r"(?:--upscaler|upscalers test) ([\w-]+)", pages)
    return [name for name in dict.fromkeys(["span-x4", *named]) if name not in {"auto", IMPORTED}]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands(page, place, tmp_path):
    script = []
    for block in blocks_of(page):
        lines = _shell(block)
        if lines:
            script.append(f"echo '{block.where}' >> {tmp_path}/reached")
            script += ["(", *lines, ") && exit 99", "true"] if block.refused else lines
    if not script:
        pytest.skip("The page has no commands.")
    folder = tmp_path / "files"
    shutil.copytree(place.folder, folder)
    config = shutil.copy(place.env["TRUSTSCALE_CONFIG"], tmp_path)
    env = {**place.env, "TRUSTSCALE_DATA_DIR": str(tmp_path / "data"), "TRUSTSCALE_CONFIG": config}
    if any(line.startswith("trustscale ") for line in script):
        export = "$SERVER/v1/admin/calibrations/$CALIBRATION/export"
        script[:0] = [
            f"curl -H 'Authorization: Bearer {ADMIN_KEY}' -o active.calibration {export}",
            "trustscale calibrations import active.calibration --activate --force",
        ]
    done = ran("bash", "-euo", "pipefail", input="\n".join(script), cwd=folder, env=env)
    reached = (tmp_path / "reached").read_text() if (tmp_path / "reached").exists() else "before"
    assert done.returncode == 0, f"{reached}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options(page):
    for block in blocks_of(page):
        for line in block.commands if block.kind in SHELLS else ():
            _check_options(line, block.where)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_configurations(page, tmp_path, monkeypatch):
    """Every TOML block is a configuration that can be read: of the service, or of an evaluation."""
    for block in blocks_of(page):
        if block.kind != "toml":
            continue
        path = tmp_path / "trustscale.toml"
        path.write_text(block.text)
        monkeypatch.setenv("TRUSTSCALE_CONFIG", str(path))
        tables = tomllib.loads(block.text)
        if not {"upscalers", "routing"} & tables.keys():
            assert read_variants(path), block.where
            continue
        if any("kind" not in entry for entry in tables.get("upscalers", [])):
            continue  # a part of an entry that stands elsewhere
        monkeypatch.chdir(ROOT)
        assert load_settings(data_dir=tmp_path).upscalers, block.where


def _shell(block):
    if block.kind == "python":
        if any(name in block.text for name in NOT_EXECUTED):
            return []
        return ["python <<END", _replaced(block.text), "END"]
    if block.kind not in SHELLS:
        return []
    kept = [line for line in block.commands if not _is_left_out(line)]
    job = "$WAITING" if "label" in block.text else "$JOB"
    return [re.sub(r"\bjob-[\w-]{20}", job, _quick(_replaced(line))) for line in kept]


def _quick(line):
    """A calibration of one model and kind of input, where the page leaves open of which."""
    command, hash_, comment = line.partition("  #")
    ways = ("--mixture", "--like", "--jpeg", "--noise", "degradation")
    has_way = any(way in command for way in ways)
    if command.startswith("trustscale calibrate "):
        command += "" if "--upscaler" in command else " --upscaler span-x4"
        command += "" if has_way else " --mixture none"
        # Of such pictures one calibration may trust less than another.
        command += " --force" if "--activate" in command else ""
    elif " $U -F" in command and not has_way:
        if "config={" in command:
            command = command.replace("config={", 'config={"degradation": {}, ')
        else:
            command += """ -F 'config={"degradation": {}}'"""
    return command + hash_ + comment


def _replaced(text):
    for pattern, variable in _STANDS_FOR:
        text = re.sub(pattern, variable, text)
    return text


def _is_left_out(line):
    start = line.strip().removeprefix(".venv/bin/")
    return any(start.startswith(command) for command in NOT_RUN) or "list|" in line


def _subcommands(command):
    return command.list_commands(None) if hasattr(command, "list_commands") else []


def _check_options(line, where):
    text = line.replace("\\\n", " ").strip().removeprefix("$ ").removeprefix(".venv/bin/")
    if not text.startswith("trustscale "):
        return
    words = [word.partition("=")[0] for word in shlex.split(text, comments=True)[1:]]
    command: Any = typer.main.get_command(app)
    options = {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)}
    for word in words:
        if word in (names := _subcommands(command)):
            command = command.get_command(None, word)
            options |= {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)}
        elif "|" in word and names:
            assert set(word.split("|")) <= {*names}, f"{where}: {word}"
        elif word.startswith("--"):
            assert word.strip("[]") in options | {"--help"}, f"{where}: {word}"


TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)
FORMS = ("/v1/admin/calibrations/{id}", "/v1/admin/calibrations")  # … in tables


def test_endpoints(tmp_path):
    """Every path of the API; ids are called {id}, and what is common to a table may be left out."""
    missing = []
    for path in create_app(Settings(data_dir=tmp_path)).openapi()["paths"]:
        plain = re.sub(r"\{\w+_id\}", "{id}", path)
        short = plain.replace(FORMS[0], "…/{id}").replace(FORMS[1], "…")
        if plain not in TEXT and short not in TEXT:
            missing.append(plain)
    assert missing == []


def test_presets():
    assert [name for name in preset_names() if f"`{name}`" not in TEXT] == []
    for model in (Result, Guarantee):
        assert [name for name in model.model_fields if f"`{name}`" not in TEXT] == []


def test_reference():
    """The pages, and the client's types of options, are those of the program."""
    made = runpy.run_path(str(ROOT / "deploy/docs/reference.py"))["PAGES"]
    stale = [page for page, make in made.items() if make() != (ROOT / page).read_text("utf-8")]
    assert stale == []


def test_the_site(tmp_path):
    build = runpy.run_path(str(ROOT / "deploy/docs/site.py"))["build"]
    assert build(tmp_path / "site") == 0
    assert (tmp_path / "site" / "api.html").exists()
