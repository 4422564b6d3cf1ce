"""What an embedded network keeps of pictures that are done."""

import subprocess
import sys

import pytest

from trustscale_server.upscalers.embedded.runtime import OPENVINO, runtimes

# Pictures of a shape of their own each; megabytes after the first ones, and in the end.
PROGRAM = """
from pathlib import Path
import numpy as np
from trustscale_server.upscalers.embedded import runtime

def memory_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

weights = (Path(runtime.__file__).parent / "models" / "spanx4_ch52.onnx").read_bytes()
session = runtime._OpenVino(weights, 1, 1, "f32")
shapes = [(height, width) for height in range(8, 28) for width in range(8, 28)]
for number, (height, width) in enumerate(shapes):
    session.run(np.zeros((1, 3, height, width), np.float32))
    if number == 250:
        print(memory_mb())
print(memory_mb())
"""


@pytest.mark.slow
@pytest.mark.skipif(OPENVINO not in runtimes(), reason="needs OpenVINO")
def test_nothing_is_kept_for_each_shape():
    """However many sizes pictures have, the network's library does not grow with them."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=600
    )
    early, late = map(float, done.stdout.split())
    assert late - early < 25
