"""Fakes of hosted APIs, and real servers, for the adapters."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.missing import not_here
from tests.servers import ServerMissing
from tests.upscalers.remote.hosted import State, hosted
from tests.upscalers.remote.pictures import source as picture
from tests.upscalers.remote.real import RealServer


@pytest.fixture
def source():
    """A textured input of 48 x 48."""
    return picture()


@pytest.fixture
def state():
    """What the hosted fakes have seen and shall do."""
    return State()


@pytest.fixture
def fakes(state):
    """The hosted fakes as a transport."""
    return httpx.ASGITransport(hosted(state))


@pytest.fixture
async def opened():
    """Wrap a way to build upscalers, so that all are closed when the test ends."""
    made = []

    def wrap(make, **defaults):
        def build(make=make, **settings):
            made.append(make(**{**defaults, **settings}))
            return made[-1]

        return build

    yield wrap
    for upscaler in made:
        await upscaler.close()


def _real(name: str) -> Iterator[RealServer]:
    try:
        server = RealServer(name)
    except ServerMissing as missing:
        not_here(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def cog():
    """A real Cog server with four slots."""
    yield from _real("cog")


@pytest.fixture(scope="session")
def bentoml():
    """A real BentoML server that takes two calls at once."""
    yield from _real("bentoml")


@pytest.fixture(scope="session")
def gradio():
    """A real Gradio app."""
    yield from _real("gradio")


@pytest.fixture(scope="session")
def triton():
    """A real Triton server."""
    yield from _real("pytriton")


@pytest.fixture(scope="session")
def mlserver():
    """A real MLServer."""
    yield from _real("mlserver")
