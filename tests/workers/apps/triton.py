"""A Triton server with the tensors of our worker; runs in an environment of its own."""

import os
import sys
from pathlib import Path

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

sys.path.insert(0, str(Path(__file__).parent))
from toy import expected


def samples(requests):
    """Of one image and M seeds: image, seeds -> samples."""
    return [
        {"samples": np.stack([expected(r.data["image"], int(seed), 2) for seed in r.data["seeds"]])}
        for r in requests
    ]


config = TritonConfig(
    http_port=int(os.environ["PORT"]),
    http_address="127.0.0.1",
    allow_grpc=False,
    allow_metrics=False,
    log_verbose=0,
)
with Triton(config=config) as server:
    server.bind(
        "sleeper",
        samples,
        [
            Tensor(name="image", dtype=np.uint8, shape=(-1, -1, 3)),
            Tensor(name="seeds", dtype=np.int64, shape=(-1,)),
        ],
        [Tensor(name="samples", dtype=np.uint8, shape=(-1, -1, -1, 3))],
        config=ModelConfig(batching=False),
    )
    server.serve()
