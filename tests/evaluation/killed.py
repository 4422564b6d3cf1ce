"""An evaluation that never comes to its end, to be killed. Arguments: photos, cache."""

from __future__ import annotations

import sys
from pathlib import Path

from app.upscalers.base import Capabilities
from tests.evaluation.conftest import evaluated
from tests.fakes import FakeUpscaler


class Stuck(FakeUpscaler):
    """Makes the samples of a few images and then none."""

    async def generate(self, source, seeds, turn=None):
        self.seconds = 0.1 if len(self.calls) < 6 * 4 else 3600
        return await super().generate(source, seeds, turn)


if __name__ == "__main__":
    evaluated(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        Stuck(capabilities=Capabilities()),
        with_blurs=False,
        with_baselines=False,
        with_pictures=False,
    )
