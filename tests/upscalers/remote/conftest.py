"""What tests of the adapters share."""

import pytest

from harness.pictures import source as picture
from trustscale_server.upscalers.remote import predictions


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(predictions, "_POLL_INTERVAL_S", 0.01)


@pytest.fixture
def source():
    return picture()


@pytest.fixture
async def opened():
    """Upscalers made by `make(**settings)`, closed when the test ends."""
    made = []

    def build(make, **settings):
        made.append(make(**settings))
        return made[-1]

    yield build
    for upscaler in made:
        await upscaler.close()
