"""The program with an upscaler that needs no model, for a test that stops it.

It answers twenty times and then no more, so that a test is never too late to stop it; then there
is a file `waits`.
"""

import functools
import signal
from pathlib import Path
from types import SimpleNamespace

import trustscale_server.cli.in_process
from harness.fakes import FakeUpscaler
from trustscale_server.bootstrap.assembly import open_parts
from trustscale_server.cli.main import main

if __name__ == "__main__":
    # Programs that are started in the background ignore Ctrl-C, and so do their own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    upscaler = FakeUpscaler()

    def answers():
        if len(upscaler.calls) > 20:
            Path("waits").touch()
        return len(upscaler.calls) <= 20

    upscaler.gate = SimpleNamespace(is_set=answers)
    trustscale_server.cli.in_process.open_parts = functools.partial(
        open_parts, build=lambda *_: upscaler
    )
    main()
