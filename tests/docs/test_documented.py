"""What can be asked and what may come back is documented, pages that the program makes are as it
would make them now, and all make a site in which every link leads somewhere.
"""

from __future__ import annotations

import re
import runpy

import pytest

from app.main import create_app
from app.serving.answer import Result
from app.settings import Settings
from app.upscalers.presets import preset_names
from tests.docs.blocks import PAGES, ROOT

README = (ROOT / "README.md").read_text("utf-8")
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
    """Every API that is described already."""
    assert [name for name in preset_names() if f"`{name}`" not in TEXT] == []


def test_the_answer():
    """Every field of the result document."""
    assert [name for name in Result.model_fields if f"`{name}`" not in TEXT] == []


def test_the_readme_has_its_pictures():
    """Whoever copies its commands in a clone has every picture that they read."""
    blocks = re.findall(r"^```(?:sh|python)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"[\w./-]+\.(?:png|jpe?g|webp)", "".join(blocks)))
    assert "examples/coast.png" in named
    assert [name for name in named - {"large.png"} if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", ["settings.md", "commands.md", "errors.md"])
def test_reference(page):
    """Settings, commands and errors: `make reference` would change nothing."""
    made = runpy.run_path(str(ROOT / "deploy/docs/reference.py"))["PAGES"][page]()
    assert made == (ROOT / "docs" / page).read_text("utf-8")


def test_the_site(tmp_path):
    """It is built strictly: of every link, page and heading are there."""
    build = runpy.run_path(str(ROOT / "deploy/docs/site.py"))["build"]
    assert build(tmp_path / "site") == 0
    assert (tmp_path / "site" / "api.html").exists()
