"""The runtimes of the embedded networks, and what is assessed of an upscaler."""

import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from harness.fakes import FakeUpscaler
from trustscale_server.upscalers.assessment import assess
from trustscale_server.upscalers.base import Capabilities
from trustscale_server.upscalers.embedded.runtime import (
    OPENVINO,
    agree,
    has_bf16,
    load_session,
    runtimes,
    trial,
)
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor has no bfloat16")


def tensor():
    window = data.coffee()[100:160, 200:270].astype(np.float32) / 255
    return np.ascontiguousarray(window.transpose(2, 0, 1)[np.newaxis])


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_libraries_agree(name):
    """In float32 OpenVINO and onnxruntime differ by rounding: one fingerprint holds for both."""
    outputs = [
        load_session(SHIPPED_MODELS[name].read(), name=name, threads=1, among=[runtime]).run(
            tensor()
        )
        for runtime in runtimes()
    ]
    for output in outputs:
        assert np.abs(output - outputs[0]).max() < 1e-4


FIRST_USES = """
import os, sys, threading
import openvino
from trustscale_server.upscalers.embedded.runtime import has_bf16
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
def use():
    barrier.wait()
    has_bf16()
    openvino.Type.f32.to_dtype()
threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.skipif(OPENVINO not in runtimes(), reason="OpenVINO is not installed")
def test_first_uses_at_once():
    """OpenVINO by itself hangs in most of such processes, without end."""
    processes = [subprocess.Popen([sys.executable, "-c", FIRST_USES]) for _ in range(4)]
    try:
        assert [process.wait(120) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()


class Fixed:
    def __init__(self, output):
        self.output = output

    def run(self, _):
        return self.output


@pytest.mark.parametrize(
    ("offset", "same"), [(0.4 / 255, True), (0.6 / 255, False), (np.nan, False)]
)
def test_agreement(offset, same):
    """An accelerator is used only where it gives what the processor gives, to half a step."""
    output = trial()
    assert agree(Fixed(output), Fixed(output + np.float32(offset))) is same
    assert not agree(Fixed(output), Fixed(output[..., :2]))


@needs_bf16
def test_bfloat16_is_another_upscaler():
    """In bfloat16 pixels change by more than rounding, so the fingerprint is another one."""
    exact, half = EmbeddedUpscaler(precision="f32"), EmbeddedUpscaler(precision="bf16")
    image = data.coffee()[100:160, 200:270]
    moved = np.abs(exact.model(image).astype(int) - half.model(image))
    assert 0.02 < moved.mean() < 1
    assert EmbeddedUpscaler(precision="auto").fingerprint == half.fingerprint
    assert exact.fingerprint != half.fingerprint


class Odd(FakeUpscaler):
    """Samples by a function of (seed, number of the call)."""

    def __init__(self, seed_of, **settings):
        super().__init__(**settings)
        self.seed_of = seed_of

    async def generate(self, source, seeds, permit=None):
        self.calls.append(list(seeds))
        return [self.sample(source.rgb, self.seed_of(seed, len(self.calls))) for seed in seeds]


@pytest.mark.parametrize(
    ("seed_of", "seeds", "words"),
    [(lambda seed, call: 1, True, ["one sample"]),
     (lambda seed, call: call, True, ["cannot be reproduced"]),
     (lambda seed, call: call % 2, False, ["a cache"]), (lambda seed, call: call, False, [])],
)  # fmt: skip
async def test_seeds(seed_of, seeds, words):
    report = await assess(Odd(seed_of, capabilities=Capabilities(seeds=seeds)))
    assert report.usable
    assert len(report.warnings) == len(words)
    assert all(map(str.__contains__, report.warnings, words))
