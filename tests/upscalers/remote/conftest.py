"""What tests of the adapters share."""

import pytest

from tests.upscalers.remote.pictures import source as picture


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
