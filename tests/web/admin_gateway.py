"""A real server with upscalers that need no model: a fast one, a slow one, and one that gets stuck.

`python -m tests.web.admin_gateway PORT`, with the data folder in the environment.
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
from tests.web.browser import ADMIN_KEY

SLOW_S = 0.5


class Stuck(FakeUpscaler):
    """Makes two samples at once, and the third one never, until that is given up."""

    made = 0

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: object = None
    ) -> list[RGB]:
        self.made += 1
        self.seconds = 0 if self.made <= 2 else 3600
        try:
            return await super().generate(source, seeds, turn)
        except asyncio.CancelledError:
            self.made = 0
            raise


def main() -> None:
    """Serve until the process is ended."""
    fast = FakeUpscaler("fast", strength=2.0)
    slow = FakeUpscaler("slow", seconds=SLOW_S, capabilities=Capabilities(concurrency=1))
    stuck = Stuck("stuck", capabilities=Capabilities(concurrency=1))
    made = [asyncio.run(calibration_of(one)) for one in (fast, FakeUpscaler("stuck"))]
    app = gateway(
        Path(os.environ["TRUSTSCALE_DATA_DIR"]),
        fast,
        slow,
        stuck,
        calibrations=made,
        admin_keys=[ADMIN_KEY],
    )
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)


if __name__ == "__main__":
    main()
