"""Tiny networks with random weights, reference numbers for them, and the commands."""

import json
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.workers.fakes import load
from trustscale_worker import cli

DATA = Path(__file__).parents[1] / "data" / "sinsr"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # The maps are tiny: on a busy machine threads would mostly wait for one another.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data():
    return DATA


@pytest.fixture(scope="session")
def config():
    return json.loads((DATA / "tiny.json").read_text())


@pytest.fixture(scope="session")
def numbers():
    """What an independent implementation computes with the tiny networks."""
    return load_file(DATA / "parity.safetensors")


@pytest.fixture(scope="session")
def load_tiny(config):
    given = {
        "weights": DATA / "unet_tiny.pth",
        "autoencoder": DATA / "vq_tiny.pth",
        "config": config,
    }
    return lambda **options: load("sinsr", **{**given, **options})


@pytest.fixture(scope="session")
def tiny_engine(load_tiny):
    return load_tiny()


@pytest.fixture(scope="session")
def tiny(tiny_engine):
    return tiny_engine.model


@pytest.fixture
def run():
    app = typer.Typer()
    app.add_typer(cli.serving, name="worker")
    app.add_typer(cli.models, name="models")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
