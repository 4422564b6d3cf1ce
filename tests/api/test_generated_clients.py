"""Clients that others generate from docs/openapi.json upload, poll and calibrate."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.api.admin import truth_files, zipped
from tests.api.gateway import ADMIN_KEY, IMAGE, gateway
from tests.live import serving
from tests.missing import not_here
from tests.servers import ran
from trustscale_server.calibration import file

pytestmark = [pytest.mark.slow, pytest.mark.servers]

HERE = Path(__file__).parent / "clients"
DOCUMENT = Path(__file__).parents[2] / "docs/openapi.json"

# It knows JSON, text, forms and bytes, and must be told which of these others are.
PYTHON = f"""
content_type_overrides:
  image/png: application/octet-stream
  image/jpeg: application/octet-stream
  image/tiff: application/octet-stream
  application/zip: application/octet-stream
  {file.MEDIA_TYPE}: application/octet-stream
  text/event-stream: text/plain
  application/problem+json: application/json
post_hooks: []
"""
NPM = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20")


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / "image.png").write_bytes(IMAGE)
    (tmp_path / "pairs.zip").write_bytes(zipped(truth_files(12)))
    with serving(gateway(tmp_path / "data")) as address:
        yield [
            f"http://{address}",
            ADMIN_KEY,
            str(tmp_path / "image.png"),
            str(tmp_path / "pairs.zip"),
        ]


def run(*command, cwd):
    done = ran(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_python(tmp_path, arguments):
    (tmp_path / "config.yml").write_text(PYTHON)
    made = run(
        *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
        *("--path", DOCUMENT, "--config", "config.yml", "--output-path", "client"),
        cwd=tmp_path,
    )
    assert "WARNING" not in made, made
    shutil.copy(HERE / "use.py", tmp_path)
    run(sys.executable, "use.py", *arguments, cwd=tmp_path)


def test_typescript(tmp_path, arguments):
    if shutil.which("npm") is None or shutil.which("node") is None:
        not_here("npm and node are not installed")
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    options = ("--silent", "--no-audit", "--no-fund")
    if ran("npm", "install", *options, *NPM, cwd=tmp_path).returncode:
        not_here("the npm registry cannot be reached")
    # What has a default need not be sent.
    options = ("--default-non-nullable", "false", "-o", "schema.d.ts")
    run("npx", "openapi-typescript", DOCUMENT, *options, cwd=tmp_path)
    shutil.copy(HERE / "use.ts", tmp_path)
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    run("npx", "tsc", *options, "use.ts", cwd=tmp_path)
    run("node", "use.js", *arguments, cwd=tmp_path)
