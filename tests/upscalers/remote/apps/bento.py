"""A BentoML service: multipart in, PNG out, two calls at once."""

import sys
import time
from pathlib import Path

import bentoml
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from model import upscale


@bentoml.service(traffic={"max_concurrency": 2, "timeout": 30}, workers=1)
class Upscaler:
    @bentoml.api
    def upscale(self, image: Image.Image, seed: int = 0, sleep: float = 0.0) -> Image.Image:
        time.sleep(sleep)
        return Image.fromarray(upscale(np.asarray(image.convert("RGB")), seed))
