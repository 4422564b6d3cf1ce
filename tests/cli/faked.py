"""The program with an upscaler that needs no model, for a test that kills it.

It answers fifty times and then no more, so that whoever kills it is never too late.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import app.cli.local
from app.assembly import open_parts
from app.cli.main import main
from tests.fakes import FakeUpscaler

if __name__ == "__main__":
    upscaler = FakeUpscaler()
    upscaler.gate = SimpleNamespace(is_set=lambda: len(upscaler.calls) <= 50)
    app.cli.local.open_parts = functools.partial(open_parts, build=lambda *_: upscaler)
    main()
