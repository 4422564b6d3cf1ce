"""A client that others generate from docs/openapi.json uploads, polls and calibrates."""

import shutil
from pathlib import Path

import pytest

from harness.admin import truth_files, zipped
from harness.gateway import ADMIN_KEY, IMAGE, gateway
from harness.servers import ran
from tests.live import serving
from tests.missing import not_here

HERE = Path(__file__).parent / "clients"
DOCUMENT = Path(__file__).parents[2] / "docs/openapi.json"
NPM = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20")


@pytest.mark.slow
@pytest.mark.servers
def test_typescript(tmp_path):
    if shutil.which("npm") is None or shutil.which("node") is None:
        not_here("npm and node are not installed")

    def run(*command):
        done = ran(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    files = {"image.png": IMAGE, "pairs.zip": zipped(truth_files(12))}
    files["package.json"] = b'{"private": true, "type": "module"}'
    files["use.ts"] = (HERE / "use.ts").read_bytes()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    options = ("--silent", "--no-audit", "--no-fund")
    if ran("npm", "install", *options, *NPM, cwd=tmp_path).returncode:
        not_here("the npm registry cannot be reached")
    # What has a default need not be sent.
    options = ("--default-non-nullable", "false", "-o", "schema.d.ts")
    run("npx", "openapi-typescript", DOCUMENT, *options)
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    run("npx", "tsc", *options, "use.ts")
    with serving(gateway(tmp_path / "data")) as address:
        run("node", "use.js", f"http://{address}", ADMIN_KEY, "image.png", "pairs.zip")
