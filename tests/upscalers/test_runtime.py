"""Which library runs a network here, and what each of them gives."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from app.errors import ConfigError, UpscalerUnavailable
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.runtime import CPU, OPENVINO, agree, has_bf16, load_session, runtimes, trial
from app.upscalers.shipped import SHIPPED

needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor has no bfloat16")


def tensor() -> np.ndarray:
    """A part of a photograph, float32 [1, 3, 60, 70] in [0, 1]."""
    window = data.coffee()[100:160, 200:270].astype(np.float32) / 255
    return np.ascontiguousarray(window.transpose(2, 0, 1)[np.newaxis])


@pytest.mark.parametrize("name", SHIPPED)
def test_libraries_agree(name):
    """In float32 OpenVINO and onnxruntime differ by rounding: one fingerprint holds for both."""
    outputs = [
        load_session(SHIPPED[name].read(), name=name, threads=1, among=[runtime]).run(tensor())
        for runtime in runtimes()
    ]
    for output in outputs:
        assert np.abs(output - outputs[0]).max() < 1e-4


class Fixed:
    """A session whose output is always the same."""

    def __init__(self, output: np.ndarray) -> None:
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


def test_openvino_comes_first():
    """Where OpenVINO is installed it runs the shipped models, unless there is an accelerator."""
    pytest.importorskip("openvino")
    assert OPENVINO in runtimes()
    assert runtimes().index(OPENVINO) < runtimes().index(CPU)
    if runtimes()[0] == OPENVINO:
        assert EmbeddedUpscaler().model.provider == OPENVINO


@needs_bf16
def test_bfloat16_is_another_upscaler():
    """In bfloat16 pixels change by more than rounding, so the fingerprint is another one."""
    exact, half = EmbeddedUpscaler(precision="f32"), EmbeddedUpscaler(precision="bf16")
    image = data.coffee()[100:160, 200:270]
    moved = np.abs(exact.model(image).astype(int) - half.model(image))
    assert 0.02 < moved.mean() < 1
    assert EmbeddedUpscaler(precision="auto").fingerprint == half.fingerprint
    assert exact.fingerprint != half.fingerprint


@pytest.mark.skipif(has_bf16(), reason="this processor has bfloat16")
def test_bfloat16_needs_a_processor():
    """Asked for where it is not, it is refused; "auto" is float32 there."""
    with pytest.raises(ConfigError, match="bfloat16"):
        EmbeddedUpscaler(precision="bf16")
    assert EmbeddedUpscaler(precision="auto").fingerprint == EmbeddedUpscaler().fingerprint


async def test_a_shipped_model_waits_until_it_is_needed(monkeypatch):
    """Its fingerprint is known before, so that nobody waits for nothing; a wrong guess is told."""
    exact = EmbeddedUpscaler(precision="f32")
    assert exact.model.precision == "f32"  # loads it
    monkeypatch.setattr("app.upscalers.embedded.foreseen", lambda _: "bf16")
    guessed = EmbeddedUpscaler(precision="f32")
    assert guessed.fingerprint != exact.fingerprint
    with pytest.raises(UpscalerUnavailable, match="computes in f32"):
        await guessed.generate(Source(np.zeros((8, 8, 3), np.uint8)), [1])
