"""A Triton server: batches of seeds in, stacks of samples out, and a model for one PNG."""

import io
import os

import numpy as np
from model import textured, upscale
from PIL import Image
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def samples_of(model):
    """A model with the tensors of our own worker: image, seeds -> samples."""

    def samples(requests):
        return [
            {"samples": np.stack([model(r.data["image"], int(seed)) for seed in r.data["seeds"]])}
            for r in requests
        ]

    return samples


def encoded(requests):
    answers = []
    for request in requests:
        rgb = np.asarray(Image.open(io.BytesIO(request.data["file"][0])).convert("RGB"))
        out = io.BytesIO()
        Image.fromarray(upscale(rgb, 0)).save(out, "PNG")
        answers.append({"file": np.array([out.getvalue()], dtype=object)})
    return answers


config = TritonConfig(
    http_port=int(os.environ["PORT"]), http_address="127.0.0.1", allow_grpc=False,
    allow_metrics=False, log_verbose=0,
)  # fmt: skip
plain = ModelConfig(batching=False)
with Triton(config=config) as server:
    for name, model in {"upscale": upscale, "sleeper": textured}.items():
        server.bind(
            name, samples_of(model),
            [Tensor(name="image", dtype=np.uint8, shape=(-1, -1, 3)),
             Tensor(name="seeds", dtype=np.int64, shape=(-1,))],
            [Tensor(name="samples", dtype=np.uint8, shape=(-1, -1, -1, 3))], config=plain,
        )  # fmt: skip
    server.bind(
        "encoded", encoded, [Tensor(name="file", dtype=bytes, shape=(1,))],
        [Tensor(name="file", dtype=bytes, shape=(1,))], config=plain,
    )  # fmt: skip
    server.serve()
