"""A real server with upscalers that need no model: `fast`, `stuck`, and `bare`, not calibrated.

`python -m tests.web.admin_gateway PORT`, with the data folder in the environment. While a file
`hold` lies in that folder, answers to uploads are held back, and a file `held` tells of the first.
"""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

import uvicorn

from harness.browser import ADMIN_KEY
from harness.factories import calibration_of
from harness.fakes import FakeUpscaler
from harness.gateway import gateway
from trustscale_server.serving.draft import EVERY_S
from trustscale_server.upscalers.base import Capabilities


class Stuck(FakeUpscaler):
    """Makes two samples at once, and the third one never, until that is given up."""

    made = 0

    async def generate(self, source, seeds, permit=None):
        self.made += 1
        self.seconds = 0 if self.made <= 2 else 3600
        try:
            return await super().generate(source, seeds, permit)
        except asyncio.CancelledError:
            self.made = 0
            raise


class Growing(FakeUpscaler):
    """Makes the upper half of a sample, as soon as drafts are made, and the other one never."""

    async def generate(self, source, seeds, permit=None):
        sample = self.sample(source.rgb, seeds[0])
        height, width = sample.shape[:2]
        places = [
            (slice(0, height // 2), slice(0, width)),
            (slice(height // 2, height), slice(0, width)),
        ]
        first, _ = permit.reporting_progress(
            permit.reporting_tiles(sample, [partial(tuple, one) for one in places])
        )
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(first)
        await asyncio.sleep(3600)


def holding(app, folder):
    """The application, which holds back what it answers to uploads while it is told to."""

    async def held(scope, receive, send):
        async def late(message):
            while scope["path"] == "/v1/upscale" and (folder / "hold").exists():
                (folder / "held").touch()
                await asyncio.sleep(0.01)
            await send(message)

        await app(scope, receive, late if scope["type"] == "http" else send)

    return held


def main():
    """Serve until the process is ended."""
    folder = Path(os.environ["TRUSTSCALE_DATA_DIR"])
    fast = FakeUpscaler("fast", strength=2.0)
    stuck = Stuck("stuck", capabilities=Capabilities(concurrency=1))
    growing = Growing("growing", capabilities=Capabilities(concurrency=1))
    twins = (fast, FakeUpscaler("stuck"), FakeUpscaler("growing"))
    made = [asyncio.run(calibration_of(one)) for one in twins]
    settings = {"admin_keys": [ADMIN_KEY], "allow_private_networks": ["connect"]}
    app = gateway(folder, fast, FakeUpscaler("bare"), stuck, growing, calibrations=made, **settings)
    uvicorn.run(
        holding(app, folder),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
    )


if __name__ == "__main__":
    main()
