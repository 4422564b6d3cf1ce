"""The program with an upscaler that needs no model, for tests that kill it."""

from __future__ import annotations

import functools

import app.cli.local
from app.assembly import open_parts
from app.cli.main import main
from tests.fakes import FakeUpscaler

if __name__ == "__main__":
    app.cli.local.open_parts = functools.partial(open_parts, build=lambda *_: FakeUpscaler())
    main()
