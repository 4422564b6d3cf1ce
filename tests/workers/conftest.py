"""Tiny networks with random weights, reference numbers for them, and the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from tests.workers.fakes import load
from workers import cli
from workers.models.sinsr.engine import SinSREngine
from workers.models.sinsr.model import SinSR

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
def load_tiny(config: dict[str, Any]) -> Callable[..., SinSREngine]:
    """Load the tiny networks with these options."""
    given = {
        "weights": DATA / "unet_tiny.pth",
        "autoencoder": DATA / "vq_tiny.pth",
        "config": config,
    }
    return lambda **options: load("sinsr", **{**given, **options})


@pytest.fixture(scope="session")
def tiny_engine(load_tiny: Callable[..., SinSREngine]) -> SinSREngine:
    """The tiny networks, loaded: float32 on the CPU."""
    return load_tiny()


@pytest.fixture(scope="session")
def tiny(tiny_engine: SinSREngine) -> SinSR:
    """Their stages."""
    return tiny_engine.model


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run one of the worker's commands."""
    app = typer.Typer()
    app.add_typer(cli.serving, name="worker")
    app.add_typer(cli.models, name="models")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
