"""Tiny networks with random weights, reference numbers for them, and the commands."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.workers.fakes import load
from trustscale_server.cli.main import main

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
def run(monkeypatch, capsys):
    """The program in this process: its exit code and what it prints."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["trustscale", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return SimpleNamespace(
            exit_code=caught.value.code or 0, stdout=captured.out, stderr=captured.err
        )

    return run
