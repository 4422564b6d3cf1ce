"""An evaluation that sleeps at every generation, to be killed. Arguments: photos, cache."""

from __future__ import annotations

import sys
from pathlib import Path

from app.upscalers.base import Capabilities
from tests.evaluation.conftest import evaluated
from tests.fakes import FakeUpscaler

if __name__ == "__main__":
    evaluated(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        FakeUpscaler(seconds=0.1, capabilities=Capabilities()),
        with_blurs=False,
        with_baselines=False,
        with_pictures=False,
    )
