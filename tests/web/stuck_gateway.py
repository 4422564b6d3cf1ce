"""A real server whose upscaler makes the first two samples of an image at once, and then none.

`python -m tests.web.stuck_gateway PORT`, with the data folder in the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from app.upscalers.base import RGB, Capabilities, Source
from tests.api.gateway import gateway
from tests.factories import calibration_of
from tests.fakes import FakeUpscaler


class Stuck(FakeUpscaler):
    """Works on one image at a time."""

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: object = None
    ) -> list[RGB]:
        self.seconds = 0 if len(self.calls) < 2 else 3600
        return await super().generate(source, seeds, turn)


def main() -> None:
    """Serve until the process is ended."""
    app = gateway(
        Path(os.environ["TRUSTSCALE_DATA_DIR"]),
        Stuck(capabilities=Capabilities(concurrency=1)),
        calibrations=[asyncio.run(calibration_of(FakeUpscaler()))],
    )
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)


if __name__ == "__main__":
    main()
