"""The configuration's checks."""

from __future__ import annotations

import json

import pytest

from workers.errors import ConfigError
from workers.files import read_settings
from workers.models.sinsr.config import DiffusionConfig, SinSRConfig


class TestReading:
    def test_forms(self, config, data):
        """It is the official one by name, a file, its content, or that under the key `config`."""
        assert read_settings(SinSRConfig, "official") == SinSRConfig()
        want = SinSRConfig.model_validate(config)
        for source in (data / "tiny.json", json.dumps(config), {"config": config}):
            assert read_settings(SinSRConfig, source) == want

    @pytest.mark.parametrize(
        ("section", "field", "value"),
        [
            ("model", "swin_dept", 2),
            ("model", "patch_norm", True),
            ("model", "channel_mult", [1, 2]),
            ("model", "model_channels", 33),
            ("diffusion", "predict_type", "epsilon"),
            ("diffusion", "timestep_respacing", 1),
            ("autoencoder", "embed_dim", 4),
            ("sampler", "desired_min_size", 48),
            ("sampler", "chop_stride", 65),
        ],
    )
    def test_faults_are_named(self, config, section, field, value):
        """A misspelt field or an unsupported variant is refused, with its section's name."""
        broken = json.loads(json.dumps(config))
        broken[section][field] = value
        with pytest.raises(ConfigError, match=section):
            read_settings(SinSRConfig, broken)

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"not json", b"[1]", None])
    def test_unreadable_file(self, tmp_path, content):
        """A file that is not there, or no JSON object, is refused by name."""
        path = tmp_path / "broken.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"broken\.json"):
            read_settings(SinSRConfig, path)


def test_one_step_uses_the_last_step():
    """One-step sampling evaluates step 14 of 15, with the published constants."""
    official = DiffusionConfig()
    assert official.timestep == 14
    assert official.noise_std == pytest.approx(1.98, rel=1e-12)
    assert official.input_std == pytest.approx(2.218197466412762)
