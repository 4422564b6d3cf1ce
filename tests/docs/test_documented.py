"""What can be set, asked or typed is documented: settings, fields, endpoints, commands, options;
and what may come back: the fields of an answer, and every problem.
"""

from __future__ import annotations

import re
from typing import get_args

import pytest

from app.main import create_app
from app.problems import PROBLEMS
from app.serving.answer import Result
from app.settings import Settings
from app.upscalers.presets import preset_names
from app.upscalers.registry import UpscalerConfig
from tests.docs.blocks import PAGES
from tests.docs.commands import all_commands

TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)
FORMS = ("/v1/admin/calibrations/{id}", "/v1/admin/calibrations")  # … in tables


@pytest.mark.parametrize("name", Settings.model_fields)
def test_settings(name):
    """Every setting of the service."""
    assert re.search(rf"\b(TRUSTSCALE_{name.upper()}|{name})\b", TEXT)


@pytest.mark.parametrize("kind", get_args(get_args(UpscalerConfig)[0]), ids=lambda k: k.__name__)
def test_upscalers(kind):
    """Every setting of every kind of upscaler."""
    assert [name for name in kind.model_fields if not re.search(rf"\b{name}\b", TEXT)] == []


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


def test_problems():
    """Every type of problem."""
    assert [name for name in PROBLEMS if f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=lambda value: str(value)[:40])
def test_commands(name, command):
    """Every command of the program with all of its options."""
    assert re.search(rf"{name}\b", TEXT)
    options = {opt for p in command.params for opt in p.opts if opt.startswith("--")}
    assert {opt for opt in options - {"--help"} if not re.search(rf"{opt}\b", TEXT)} == set()
