"""A real server for the admin's pages, with upscalers that need no model: a fast and a slow one.

`python -m tests.web.admin_gateway PORT`, with the data folder in the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import uvicorn

from app.upscalers.base import Capabilities
from tests.api.gateway import gateway
from tests.factories import calibration_of
from tests.fakes import FakeUpscaler
from tests.web.browser import ADMIN_KEY

SLOW_S = 0.5


def main() -> None:
    """Serve until the process is ended."""
    fast = FakeUpscaler("fast", strength=2.0)
    slow = FakeUpscaler("slow", seconds=SLOW_S, capabilities=Capabilities(concurrency=1))
    app = gateway(
        Path(os.environ["TRUSTSCALE_DATA_DIR"]),
        fast,
        slow,
        calibrations=[asyncio.run(calibration_of(fast))],
        admin_keys=[ADMIN_KEY],
    )
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)


if __name__ == "__main__":
    main()
