"""Build docs/ as a site: `make docs`. Strict, without network; a dead link ends it.

Pages elsewhere in the repository join it, Swagger UI shows the HTTP API, and links to other files
get those files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "app/trustscale_server/upscalers/embedded/models/MODEL_CARD.md": "model-card.md",
    "app/trustscale_server/things/models/MODEL_CARD.md": "face-detector.md",
}
FILES: Final = {"deploy/chart/files/alerts.yml": "alerts.yml", "NOTICE": "NOTICE.txt"}
GONE: Final = {"examples/restoration"}  # folders, which only a clone has

_API: Final = """# HTTP API

The document itself: [openapi.json](openapi.json). How it is used: [HTTP API](http.md).

<link rel="stylesheet" href="swagger-ui.css">
<div id="api"></div>
<script src="swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#api", supportedSubmitMethods: []})</script>
"""


def assemble(folder: Path) -> None:
    """Put the pages of the site into a folder."""
    shutil.copytree(ROOT / "docs", folder)
    for source, target in (PAGES | FILES).items():
        shutil.copyfile(ROOT / source, folder / target)
    (folder / "api.md").write_text(_API, "utf-8")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        data = resources.files("fastapi_swagger.resources").joinpath(name).read_bytes()
        (folder / name).write_bytes(data)
    for page in folder.glob("*.md"):
        page.write_text(_LINK.sub(_here, page.read_text("utf-8")), "utf-8")


_LINK: Final = re.compile(r"(?<=\])\((?P<path>[\w./-]+)(?P<anchor>#[^)\s]*)?\)")


def _here(link: re.Match[str]) -> str:
    path = link["path"].removeprefix("../").removeprefix("docs/")
    if path in GONE:
        return ""
    return f"({(PAGES | FILES).get(path, path)}{link['anchor'] or ''})"


def build(site: Path) -> int:
    """Build into a new folder; the exit code of the builder."""
    with tempfile.TemporaryDirectory() as folder:
        assemble(Path(folder) / "docs")
        shutil.copyfile(Path(__file__).with_name("site.yml"), Path(folder) / "mkdocs.yml")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        done = subprocess.run(command, cwd=folder, check=False)
        if done.returncode == 0:
            shutil.copytree(Path(folder) / "site", site)
        return done.returncode


if __name__ == "__main__":
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    sys.exit(build(ROOT / "site"))
