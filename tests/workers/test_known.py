"""Which models are known, and which of them a folder holds."""

from __future__ import annotations

import json
import re

import pytest

from workers.known import identify, known_models
from workers.models.registry import ENGINES


def test_what_is_known(run):
    """Every known model has an engine, a licence, an address, and files or a pipeline."""
    listed = json.loads(run("models", "list", "--json").stdout)
    assert set(listed) >= {"SinSR", "LDM-SR", "SD-x4", "AuraSR-v2", "Real-ESRGAN", "DDColor"}
    for name, known in known_models().items():
        assert known.engine in ENGINES
        assert bool(known.files) != bool(known.pipeline)
        assert known.address.startswith("https://")
        assert all(re.fullmatch("[0-9a-f]{64}", f.sha256 or "0" * 64) for f in known.files)
        assert known.licence in run("models", "list").stdout
        assert name in listed


def test_whole_or_not(tmp_path, run):
    """A folder with one of SinSR's two files holds it, and lacks the other; then it is whole."""
    (tmp_path / "SinSR_v1.safetensors").touch()
    [found] = identify(tmp_path)
    assert (found.model, found.missing) == ("SinSR", ["autoencoder_vq_f4.pth"])
    result = run("models", "verify", tmp_path)
    assert result.exit_code == 1
    assert "autoencoder_vq_f4.pth is missing" in result.stdout
    (tmp_path / "autoencoder_vq_f4.pth").touch()
    result = run("models", "verify", tmp_path, "--json")
    assert result.exit_code == 0
    [whole] = json.loads(result.stdout)
    assert (whole["complete"], whole["checked"]) == (True, "names")


@pytest.mark.parametrize(
    ("size", "words"),
    [(5, "5 bytes"), (known_models()["Real-ESRGAN"].files[0].size, "another SHA-256")],
)
def test_another_file_of_the_name(tmp_path, size, words):
    """A file of another size or other content than published is not the model."""
    with (tmp_path / "RealESRGAN_x4plus.pth").open("wb") as file:
        file.truncate(size)
    [found] = identify(tmp_path)
    assert words in found.wrong[0]
    assert not found.complete


def test_a_pipeline(tmp_path, run):
    """A pipeline is known by its class, in a folder inside, and a part without weights is named."""
    pytest.importorskip("diffusers", reason="needs trustscale[diffusers]")
    from tests.workers.diffusion.tiny import make  # noqa: PLC0415

    folder = make("ldm", tmp_path)
    assert "complete" in run("models", "verify", tmp_path).stdout
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    [found] = identify(folder)
    assert (found.model, found.missing) == ("LDM-SR", ["unet"])


def test_a_part_of_no_library(tmp_path):
    """A part that is listed without a class is missing, like one without weights."""
    index = {"_class_name": "LDMSuperResolutionPipeline", "unet": [], "vqvae": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    [found] = identify(tmp_path)
    assert found.missing == ["unet"]


def test_nothing_known(tmp_path, run):
    """An empty folder, or none, is one line."""
    for folder in (tmp_path, tmp_path / "none"):
        result = run("models", "verify", folder)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
