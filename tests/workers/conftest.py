"""Tiny networks with random weights, reference numbers for them, and a live server."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from fastapi import FastAPI
from safetensors.torch import load_file

from workers.models.sinsr import SinSR

DATA = Path(__file__).parents[1] / "data" / "sinsr"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # The maps are tiny: on a busy machine threads would mostly wait for one another.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the tiny networks."""
    return DATA


@pytest.fixture(scope="session")
def config() -> dict[str, Any]:
    """The tiny networks' hyper-parameters."""
    return json.loads((DATA / "tiny.json").read_text())


@pytest.fixture(scope="session")
def numbers() -> dict[str, Any]:
    """What an independent implementation computes with the tiny networks."""
    return load_file(DATA / "parity.safetensors")


@pytest.fixture(scope="session")
def tiny(config: dict[str, Any]) -> SinSR:
    """The tiny networks, loaded: float32 on the CPU."""
    return SinSR.from_files(config, DATA / "unet_tiny.pth", DATA / "vq_tiny.pth")


Serve = Callable[..., "contextlib.AbstractContextManager[str]"]


@contextlib.contextmanager
def serving(app: FastAPI, drain_s: int | None = None) -> Iterator[str]:
    """A real uvicorn on a free loopback port; yields host:port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=drain_s)
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def serve() -> Serve:
    """Start an application on a real server."""
    return serving
