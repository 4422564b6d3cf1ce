"""Which package may import what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "safetensors", "spandrel", "spandrel_extra_arches"}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class TestImports:
    def test_workers_do_not_know_the_gateways_http(self):
        """Nothing under workers imports app.api."""
        for path in (ROOT / "workers").rglob("*.py"):
            names = set(_imports(path))
            assert not any(f"{name}.".startswith("app.api.") for name in names), path

    def test_torch_stays_in_the_workers(self):
        """Nothing under app imports torch or what belongs to it."""
        for path in (ROOT / "app").rglob("*.py"):
            assert not {name.partition(".")[0] for name in _imports(path)} & HEAVY, path

    @pytest.mark.parametrize(
        "name",
        [
            "cli.py",
            "service.py",
            "batcher.py",
            "protocol.py",
            "files.py",
            "models/registry.py",
            "models/onnx.py",
            "models/one_by_one.py",
        ],
    )
    def test_service_needs_no_torch(self, name):
        """The service's own modules load without torch."""
        tree = ast.parse((ROOT / "workers" / name).read_text(encoding="utf-8"))
        top = {
            alias.name.partition(".")[0]
            for node in tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not top & HEAVY
