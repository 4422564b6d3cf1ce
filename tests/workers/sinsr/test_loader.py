"""Weight files as they are found in the wild."""

from __future__ import annotations

import pickle

import pytest
import torch

from tests.workers.fakes import Bomb
from workers import weights
from workers.errors import WeightsError
from workers.models.sinsr import loader
from workers.models.sinsr.config import SinSRConfig
from workers.models.sinsr.model import SinSR, networks_digest


@pytest.fixture(scope="module")
def states(data):
    return [weights.read_state(data / name) for name in ("unet_tiny.pth", "vq_tiny.pth")]


@pytest.fixture
def networks(config):
    """The tiny networks without weights."""
    return SinSR.plan_networks(SinSRConfig.model_validate(config))


class TestFit:
    @pytest.fixture
    def digest(self, networks):
        """Of the networks, when they have been given these states."""

        def digest(*states):
            for network, state in zip(networks, states, strict=True):
                loader.fit(network, state, "file.pth")
            return networks_digest(*networks)

        return digest

    @pytest.mark.parametrize(
        "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."]
    )
    def test_prefixes_of_wrappers(self, digest, states, prefix):
        """Prefixes of parallel and compiled wrappers are removed, in any order."""
        wrapped = [{prefix + key: value for key, value in state.items()} for state in states]
        assert digest(*wrapped) == digest(*states)

    def test_what_is_not_used(self, digest, states):
        """Training loss, masks and position tables in the files have no influence."""
        unet, autoencoder = states
        assert any(key.endswith("attn_mask") for key in unet)
        spoilt = {
            key: value * 0 if key.endswith(("attn_mask", "relative_position_index")) else value
            for key, value in unet.items()
        }
        extra = {**autoencoder, "loss.discriminator.weight": torch.zeros(3)}
        assert digest(spoilt, extra) == digest(*states)

    def test_half_precision_files(self, networks, states):
        """Weights stored in half precision are loaded as float32."""
        loader.fit(networks[1], {k: v.half() for k, v in states[1].items()}, "half.pth")
        assert {p.dtype for p in networks[1].parameters()} == {torch.float32}

    def test_every_fault_is_named(self, networks, states):
        """Every missing, unexpected and misshaped key is in the message; the summary is short."""
        state = dict(states[1])
        lost = [key for key in state if key.startswith("encoder.mid")]
        for key in lost:
            del state[key]
        state["stranger"] = torch.zeros(1)
        state["quant_conv.bias"] = torch.zeros(7)
        with pytest.raises(WeightsError) as caught:
            loader.fit(networks[1], state, "file.pth")
        message = str(caught.value)
        assert all(key in message for key in lost)
        assert "1 unexpected: stranger" in message
        assert "quant_conv.bias (is 7, should be 3)" in message
        assert f"{len(lost)} missing" in caught.value.summary
        assert len(caught.value.summary) < 500

    @pytest.mark.parametrize(
        ("name", "dtype", "words"),
        [
            ("quant_conv.bias", torch.int64, r"not floating point: quant_conv\.bias"),
            ("module.quant_conv.bias", torch.float32, r"several entries for quant_conv\.bias"),
        ],
    )
    def test_odd_entries(self, networks, states, name, dtype, words):
        """Integers are no weights; a name with and without a prefix is ambiguous."""
        state = {**states[1], name: torch.zeros(3, dtype=dtype)}
        with pytest.raises(WeightsError, match=words):
            loader.fit(networks[1], state, "file.pth")


class TestReadState:
    def test_safetensors_hold_the_same(self, data, states, tmp_path):
        """Converting to safetensors keeps every tensor, and the suffix does not matter."""
        target = tmp_path / "converted.bin"
        weights.write_safetensors(states[0], target)
        again = weights.read_state(target)
        assert weights.digest(again) == weights.digest(states[0])
        assert not (tmp_path / "converted.bin.partial").exists()

    @pytest.mark.parametrize("legacy", [False, True])
    def test_malicious_pickle(self, tmp_path, legacy):
        """A pickle that would run a command is refused, and the command does not run."""
        path, trap = tmp_path / "evil.pth", tmp_path / "executed"
        content = {"state_dict": {"weight": torch.zeros(1)}, "bomb": Bomb(trap)}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(WeightsError, match="nothing in it was executed"):
            weights.read_state(path)
        path.write_bytes(pickle.dumps(Bomb(trap)))  # nor one that torch has not written
        with pytest.raises(WeightsError):
            weights.read_state(path)
        assert not trap.exists()

    @pytest.mark.parametrize("length", [0, 1, 9, 100, 100_000, -1])
    @pytest.mark.parametrize("kind", ["pth", "safetensors"])
    def test_truncated_file(self, data, states, tmp_path, kind, length):
        """A file that ends too early is refused by name, wherever it ends."""
        whole = tmp_path / "whole"
        if kind == "pth":
            whole = data / "vq_tiny.pth"
        else:
            weights.write_safetensors(states[1], whole)
        path = tmp_path / "cut.pth"
        path.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(WeightsError, match=r"cut\.pth"):
            weights.read_state(path)

    @pytest.mark.parametrize("content", [b"just some text\n", b"\x89PNG\r\n\x1a\n", b"{}"])
    def test_other_files(self, tmp_path, content):
        """A text file, a picture, a folder and nothing are no checkpoint."""
        path = tmp_path / "notes.txt"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="neither a PyTorch checkpoint nor"):
            weights.read_state(path)
        with pytest.raises(WeightsError, match="No such file"):
            weights.read_state(tmp_path / "none.pth")
        with pytest.raises(WeightsError, match="directory"):
            weights.read_state(tmp_path)

    @pytest.mark.parametrize(
        "content",
        [
            [],
            {},
            {"epoch": 3},
            torch.zeros(2),
            {"a": torch.eye(2).to_sparse()},
            {"a": torch.empty(2, device="meta")},
        ],
    )
    def test_no_tensors_by_name(self, tmp_path, content):
        """A checkpoint without named tensors, or with such as hold no number, is refused."""
        path = tmp_path / "odd.pth"
        torch.save(content, path)
        with pytest.raises(WeightsError, match=r"odd\.pth"):
            weights.read_state(path)

    def test_a_wrapper_that_holds_itself(self, tmp_path):
        """A file that says that it holds itself is refused, as one with other entries is."""
        content = {"a": torch.zeros(1)}
        torch.save(content | {"state_dict": content}, tmp_path / "once.pth")
        assert list(weights.read_state(tmp_path / "once.pth")) == ["a"]
        content["state_dict"] = content
        torch.save(content, tmp_path / "endless.pth")
        with pytest.raises(WeightsError, match=r"no plain tensors: state_dict"):
            weights.read_state(tmp_path / "endless.pth")


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
