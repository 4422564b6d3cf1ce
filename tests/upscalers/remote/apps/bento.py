"""A BentoML service: multipart in, PNG out, two calls at once."""

import time

import bentoml
import numpy as np
from model import upscale
from PIL import Image


@bentoml.service(traffic={"max_concurrency": 2, "timeout": 30}, workers=1)
class Upscaler:
    @bentoml.api
    def upscale(self, image: Image.Image, seed: int = 0, sleep: float = 0.0) -> Image.Image:
        time.sleep(sleep)
        return Image.fromarray(upscale(np.asarray(image.convert("RGB")), seed))
