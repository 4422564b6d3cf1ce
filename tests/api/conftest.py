"""Gateways that are started and stopped with a test."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from types import SimpleNamespace

import pytest
from limits.aio.storage import memory
from starlette.testclient import TestClient

from harness.admin import Admin
from harness.factories import calibration_of
from harness.fakes import FakeUpscaler
from harness.gateway import Served, aside, gateway, post, running
from trustscale_server.http.clients import open_limits

Start = Callable[..., TestClient]
Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(scope="session")
def calibration():
    """A calibration of the default fake upscaler: 30 pairs of 48 x 48 pixels."""
    return aside(calibration_of(FakeUpscaler()))


@pytest.fixture
def start(tmp_path, calibration):
    """Starts gateways on one data folder; all are stopped at the end."""
    with ExitStack() as stack:

        def start(*upscalers, calibrations=(calibration,), **settings):
            app = gateway(tmp_path, *upscalers, calibrations=calibrations, **settings)
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start


@pytest.fixture
def serve(tmp_path, calibration):
    """Runs a gateway in this event loop: `async with serve(upscaler, **settings) as served`."""

    def serve(*upscalers, folder="", **options):
        options = {"calibrations": [calibration], **options}
        return running(gateway(tmp_path / folder, *upscalers, **options))

    return serve


@pytest.fixture(scope="module")
def shared(tmp_path_factory, calibration):
    """One gateway for the tests of a module that leave it as it was."""
    upscaler = FakeUpscaler()
    app = gateway(tmp_path_factory.mktemp("shared"), upscaler, calibrations=[calibration])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, upscaler


@pytest.fixture
def upscaler(shared):
    vars(shared[1]).clear()
    shared[1].__init__()
    return shared[1]


@pytest.fixture
def client(shared, upscaler):
    return shared[0]


@pytest.fixture
def answer(client):
    return post(client, alpha=0.1, seed=3).json()


@pytest.fixture
def admin(client):
    return Admin(client)


@pytest.fixture
def fresh(start):
    """The admin of a separate gateway, with the session's calibration active."""
    return Admin(start())


@pytest.fixture
def one_minute(monkeypatch):
    """A minute of the clients' limits that does not end during a test, however long that takes."""
    now = time.time()
    standing = SimpleNamespace(**{**vars(time), "time": lambda: now})
    for module in (memory, sys.modules[open_limits.__module__]):
        monkeypatch.setattr(module, "time", standing)
