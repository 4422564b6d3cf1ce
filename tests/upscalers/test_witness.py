"""The witness: what the shipped faithful network says of any upscaler's input."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from app.upscalers.base import Source, witness_of
from app.upscalers.config import EmbeddedConfig
from app.upscalers.registry import build_upscaler
from app.upscalers.witness import FaithfulWitness
from tests.factories import photo


@pytest.fixture(scope="module")
def witness():
    return FaithfulWitness()


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
async def test_answer(witness, scale):
    """The input, enlarged as faithfully as any upscaler of this scale is compared with."""
    source = Source(photo(3, 30, 41))
    answer = await witness.answer(source, scale)
    assert (answer.shape, answer.dtype) == ((30 * scale, 41 * scale, 3), np.uint8)
    plain = Image.fromarray(source.rgb).resize((41 * scale, 30 * scale), Image.Resampling.BICUBIC)
    assert np.abs(answer.astype(int) - np.asarray(plain)).mean() < 6
    assert np.array_equal(answer, await witness.answer(source, scale))


async def test_of_whom():
    """Every upscaler but the faithful one has it, which it shares when both are the same."""
    witness = FaithfulWitness("f32")
    span, sharp, small = (
        build_upscaler(EmbeddedConfig(name=name, model=model, tile=tile), {}, witness=witness)
        for name, model, tile in (
            ("faithful", "span-x4", None),
            ("sharp", "realesr-x4", None),
            ("small", "span-x4", 64),
        )
    )
    assert witness_of(sharp) is witness
    assert witness_of(span) is witness_of(small) is None
    assert witness.upscaler is span
    assert witness.fingerprint(2) == witness.fingerprint(4) == span.fingerprint
    assert witness.fingerprint(1) == "input"
