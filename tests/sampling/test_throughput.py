"""What an upscaler takes is measured, kept, and told only where something is known."""

from __future__ import annotations

import pytest

from app.sampling.throughput import Throughput
from app.upscalers.base import Capabilities
from tests.fakes import FakeUpscaler

MEGA = 10**6


def test_estimate():
    """The fastest of the last pictures: others were small, or shared the machine."""
    pace, upscaler = Throughput(), FakeUpscaler()
    assert pace.estimate(upscaler, MEGA, 1) is None
    assert pace.seconds_per_megapixel(upscaler) is None
    for pixels, samples, seconds in ((MEGA, 2, 20), (MEGA // 4, 2, 3), (1000, 1, 5)):
        pace.note(upscaler, pixels, samples, seconds)
    assert pace.seconds_per_megapixel(upscaler) == 6
    assert pace.estimate(upscaler, 3 * MEGA, 4) == 72
    for _ in range(16):  # the machine has become slower
        pace.note(upscaler, MEGA, 1, 30)
    assert pace.seconds_per_megapixel(upscaler) == 30


def test_much_larger_pictures():
    """Of an API whose calls have costs of their own a stamp tells nothing; of tiles it does."""
    pace = Throughput()
    remote = FakeUpscaler("remote")
    tiled = FakeUpscaler("tiled", capabilities=Capabilities(by_tiles=True))
    for upscaler in (remote, tiled):
        pace.note(upscaler, 1000, 1, 5)
    assert pace.estimate(remote, 4000, 1) == 20
    assert pace.estimate(remote, MEGA, 1) is None
    assert pace.estimate(tiled, MEGA, 1) == 5000


async def test_measured_by_one_tile():
    """At a start the model is timed, whatever was known of it before."""
    pace, upscaler = Throughput(), FakeUpscaler()
    pace.note(upscaler, MEGA, 1, 1e-9)
    await pace.measure(upscaler)
    assert upscaler.calls == [[0]]
    assert pace.seconds_per_megapixel(upscaler) > 1e-6


def test_kept(tmp_path):
    """The next process knows it, unless the model is another one or the file is damaged."""
    file = tmp_path / "throughput.json"
    upscaler = FakeUpscaler()
    Throughput(file).note(upscaler, MEGA, 1, 10)
    assert Throughput(file).estimate(upscaler, 2 * MEGA, 1) == 20
    assert Throughput(file).estimate(FakeUpscaler(fingerprint="fake:2"), MEGA, 1) is None
    for damaged in (b"", b"[]", b'{"fake": 1}', b'{"fake": {"fingerprint": "fake:1"}}'):
        file.write_bytes(damaged)
        assert Throughput(file).estimate(upscaler, MEGA, 1) is None


@pytest.mark.parametrize("path", ["nowhere/throughput.json", "."])
def test_a_place_that_cannot_be_written(tmp_path, path):
    """What cannot be kept is known as long as the process lives."""
    pace, upscaler = Throughput(tmp_path / path), FakeUpscaler()
    pace.note(upscaler, MEGA, 1, 10)
    assert pace.estimate(upscaler, MEGA, 1) == 10
