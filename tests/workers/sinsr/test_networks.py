"""SinSR: its weight files as they are found, its networks, their configuration and tiles."""

import json
import pickle

import pytest
import torch

from tests.workers.fakes import Bomb
from trustscale_worker import weights
from trustscale_worker.errors import WeightsError
from trustscale_worker.models.pixels import starts
from trustscale_worker.models.sinsr.config import SinSRConfig
from trustscale_worker.models.sinsr.layers import GroupNorm
from trustscale_worker.models.sinsr.model import SinSR, load_weights, networks_digest


def test_names_and_shapes_of_the_official_networks(data):
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
    """Normalisation is within 5e-6 of float64's, also far from zero and in blocks."""
    torch.manual_seed(0)
    norm = GroupNorm(64, 1e-5).requires_grad_(False)
    x = (torch.randn(2, 64, 150, 160) * 3 + 20).to(memory_format=layout)
    want = torch.nn.functional.group_norm(x.double(), 32, eps=1e-5)
    assert (norm(x) - want).abs().max() < 5e-6
    assert torch.equal(norm(x)[1:], norm(x[1:]))


def test_starts_tables(data):
    """Start positions are the reference's for all sizes in its tables."""
    for rule, table in json.loads((data / "tile_starts.json").read_text()).items():
        tile, stride = map(int, rule.split("/"))
        for length, want in table.items():
            assert starts(int(length), tile, stride) == want, (rule, length)


@pytest.fixture(scope="module")
def states(data):
    return [weights.read_state(data / name) for name in ("unet_tiny.pth", "vq_tiny.pth")]


@pytest.fixture
def networks(config):
    return SinSR.plan_networks(SinSRConfig.model_validate(config))


def test_what_published_files_hold_besides(networks, states):
    """Prefixes of wrappers, masks that follow from sizes, and the critic of the training."""
    unet, autoencoder = states
    assert any(key.endswith("attn_mask") for key in unet)
    spoilt = {
        f"module._orig_mod.{key}": value
        * (not key.endswith(("attn_mask", "relative_position_index")))
        for key, value in unet.items()
    }
    digests = []
    for given in (states, (spoilt, {**autoencoder, "loss.discriminator.weight": torch.zeros(3)})):
        for network, state in zip(networks, given, strict=True):
            load_weights(network, state, "file.pth")
        digests.append(networks_digest(*networks))
    assert digests[0] == digests[1]


def test_faults_of_weights_are_named(networks, states):
    state = dict(states[1])
    lost = [key for key in state if key.startswith("encoder.mid")]
    for key in lost:
        del state[key]
    state["stranger"] = torch.zeros(1)
    state["quant_conv.bias"] = torch.zeros(7)
    with pytest.raises(WeightsError) as caught:
        load_weights(networks[1], state, "file.pth")
    message = caught.value.detail
    assert f"{len(lost)} missing: {lost[0]}" in message
    assert "1 unexpected: stranger" in message
    assert "quant_conv.bias (is 7, should be 3)" in message
    assert len(message) < 500


@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_pickle(tmp_path, legacy):
    path, trap = tmp_path / "evil.pth", tmp_path / "executed"
    content = {"state_dict": {"weight": torch.zeros(1)}, "bomb": Bomb(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match="nothing in it was executed"):
        weights.read_state(path)
    path.write_bytes(pickle.dumps(Bomb(trap)))  # nor one that torch has not written
    with pytest.raises(WeightsError):
        weights.read_state(path)
    assert not trap.exists()


def test_fingerprint_covers_what_changes_pixels(load_tiny, tiny_engine, config, states, tmp_path):
    """Precision, hyper-parameters and weights are in the fingerprint; labels are not."""
    nudged = tmp_path / "nudged.safetensors"
    bias = "quant_conv.bias"
    weights.write_safetensors({**states[1], bias: states[1][bias] + 1e-6}, nudged)
    stepped = {**config, "sampler": {**config["sampler"], "chop_stride": 48}}
    plain = tiny_engine.fingerprint
    assert load_tiny(config={**config, "name": "other"}).fingerprint == plain
    changes = ({"config": stepped}, {"dtype": "bfloat16"}, {"autoencoder": nudged})
    assert len({plain, *(load_tiny(**change).fingerprint for change in changes)}) == 4
