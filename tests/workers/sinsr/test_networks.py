"""The full-size networks against the published list of weights, and layers of their own."""

from __future__ import annotations

import pytest
import torch

from workers.models.sinsr import autoencoder, layers
from workers.models.sinsr.config import SinSRConfig
from workers.models.sinsr.layers import GroupNorm, global_attention
from workers.models.sinsr.model import SinSR


def test_names_and_shapes_of_the_official_networks(data):
    """Every parameter of the published files is there, with its shape, and no other.

    While they are planned, none takes memory.
    """
    rows = [
        line.split("\t")
        for line in (data / "state_dict_keys.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    want = {name: shape for name, shape, _, kind in rows if kind == "param"}
    assert len(want) == 540 + 205
    planned = {
        name: parameter
        for network in SinSR.plan_networks(SinSRConfig())
        for name, parameter in network.named_parameters()
    }
    assert {name: "x".join(map(str, p.shape)) for name, p in planned.items()} == want
    assert all(parameter.is_meta for parameter in planned.values())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_group_norm(layout):
    """Normalisation is within 5e-6 of float64's, also far from zero and in blocks.

    A map has the same bits alone and in company.
    """
    torch.manual_seed(0)
    norm = GroupNorm(64, 1e-5).requires_grad_(False)
    x = (torch.randn(2, 64, 150, 160) * 3 + 20).to(memory_format=layout)
    want = torch.nn.functional.group_norm(x.double(), 32, eps=1e-5)
    assert (norm(x) - want).abs().max() < 5e-6
    assert torch.equal(norm(x)[1:], norm(x[1:]))


def test_attention_in_blocks_is_exact(monkeypatch):
    """Blocks of queries give what the whole attention matrix gives."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 300, 64)
    monkeypatch.setattr(layers, "ATTENTION_BLOCK_BYTES", 4 * 300 * 7)
    want = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(global_attention(query, key, value), want, rtol=0, atol=1e-5)


def test_codes_in_blocks(tiny, numbers, monkeypatch):
    """Searching the codebook a few positions at a time finds the same codes."""
    want, _ = tiny.quantise(numbers["a.unet_out"])
    monkeypatch.setattr(autoencoder, "DISTANCE_BLOCK_BYTES", 4 * 48 * 5)
    assert torch.equal(tiny.quantise(numbers["a.unet_out"])[0], want)


def test_first_of_equal_codes(config):
    """Of two identical codes the first is chosen."""
    twin = autoencoder.Autoencoder(SinSRConfig.model_validate(config).autoencoder)
    with torch.no_grad():
        twin.quantize.embedding.weight.zero_()
        twin.quantize.embedding.weight[5:8] = 1.0
        indices, codes = twin.quantise(torch.ones(1, 3, 2, 2))
    assert (indices == 5).all()
    assert (codes == 1).all()
