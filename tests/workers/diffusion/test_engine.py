"""Diffusion pipelines as engines: the library's own samples, whatever their company."""

import shutil
import socket

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="needs trustscale-worker[diffusers]")

import diffusers

from tests.workers.fakes import load, noise
from trustscale_server.platform.errors import ConfigError
from trustscale_worker import weights
from trustscale_worker.errors import ClientGone, OutOfMemory, WeightsError
from trustscale_worker.models.diffusion.engine import DiffusionEngine
from trustscale_worker.models.engine import SampleRequest
from trustscale_worker.settings import EngineSpec

# The library's own use of numpy and of itself.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning", "ignore::FutureWarning"
)

KINDS = {
    "ldm": (4, {"steps": 4}),
    "upscale": (4, {"steps": 3, "prompt": "a cat", "guidance": 3.0}),
    "latent": (2, {"steps": 3, "prompt": "a cat", "guidance": 3.0}),
    "image_to_image": (1, {"steps": 4, "strength": 0.5}),
}
WIDE = 2**40 + 7
IMAGE = noise(16, 16)
FULL = "DefaultCPUAllocator: can't allocate memory"


@pytest.fixture(scope="module", autouse=True)
def asked():
    hosts: list[str] = []

    def unreachable(host, *_, **__):
        hosts.append(host)
        raise OSError(host)

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        patch.setattr(socket, "getaddrinfo", unreachable)
        yield hosts


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    # Every process of the tests that only collects this module would pay five seconds for it.
    from harness.tiny import make  # noqa: PLC0415

    root = tmp_path_factory.mktemp("pipelines")
    return {kind: make(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def engines(folders):
    return {
        kind: load("diffusers", folders[kind], config=settings, threads=2)
        for kind, (_, settings) in KINDS.items()
    }


def _library(folder, kind, image, seed, settings):
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": settings["steps"], "output_type": "np"}
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    if kind == "ldm":
        pixels = pixels * 2 - 1
    else:
        given["prompt"] = settings.get("prompt", "")
        given["guidance_scale"] = settings.get("guidance", 7.5)
    if "strength" in settings:
        given["strength"] = settings["strength"]
    return pipe(image=pixels, generator=torch.Generator().manual_seed(seed), **given).images[0]


class Plain(DiffusionEngine):
    layout = torch.contiguous_format


@pytest.mark.parametrize("kind", KINDS)
def test_the_librarys_own_sample(engines, folders, kind):
    """A sample is what the library's call gives for the generator of its seed."""
    scale, settings = KINDS[kind]
    image = noise(32, 32)  # nothing is padded
    plain = Plain.load(EngineSpec("diffusers", folders[kind], config=settings))
    [sample] = plain.samples(image, np.array([5]))
    expected = _library(folders[kind], kind, image, 5, settings)
    assert sample.shape == (32 * scale, 32 * scale, 3) == expected.shape
    # Rounded to bytes, with room for 1e-5 before.
    assert np.abs(sample / 255 - expected).max() <= 0.5 / 255 + 1e-5
    [usual] = engines[kind].samples(image, np.array([5]))  # another layout in memory
    assert np.abs(usual.astype(int) - sample).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_company_changes_nothing(engines, kind):
    """The same seed gives the same bytes alone, among four, in any order, beside other images."""
    engine = engines[kind]
    seeds = np.array([3, -1, WIDE, 2**31 - 1])
    together = engine.samples(IMAGE, seeds)
    alone = engine.samples(IMAGE, seeds[[2]])[0]
    assert np.array_equal(alone, together[2])
    jobs = [SampleRequest(noise(16, 16, 1), seeds[:1]), SampleRequest(IMAGE, seeds[::-1][:3])]
    assert np.array_equal(engine.samples_of(jobs)[1], together[::-1][:3])
    assert len({sample.tobytes() for sample in together}) == len(seeds)


def test_nobody_is_asked(engines, asked):
    assert engines
    assert not asked


def test_settings_are_in_the_fingerprint(folders):

    def fingerprint(kind="upscale", options=None, **settings):
        return load("diffusers", folders[kind], config=settings, **(options or {})).fingerprint

    found = [
        fingerprint(), fingerprint(steps=9), fingerprint(prompt="b"), fingerprint(noise_level=3),
        fingerprint(options={"dtype": "bfloat16"}), fingerprint(options={"tile": 64}),
        fingerprint("ldm"),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert fingerprint(steps=75) == found[0]  # what is the default anyway


def test_short_memory(engines, monkeypatch):
    engine, pipeline = engines["ldm"], engines["ldm"].pipeline
    seeds, expected = np.arange(4), engine.samples(IMAGE, np.arange(4))
    failures, whole = [FULL], pipeline.predict

    def short(seen, moment):
        if failures:
            raise RuntimeError(failures.pop())
        return whole(seen, moment)

    monkeypatch.setattr(pipeline, "predict", short)
    assert np.array_equal(engine.samples(IMAGE, seeds), expected)
    failures += 100 * [FULL]
    with pytest.raises(OutOfMemory, match="not even one"):
        engine.samples(IMAGE, seeds)
    failures[:] = ["a bug"]
    with pytest.raises(RuntimeError, match="a bug"):
        engine.samples(IMAGE, seeds)


def test_cancelled(engines):
    with pytest.raises(ClientGone):
        engines["ldm"].samples_of([SampleRequest(IMAGE, np.arange(4), lambda: True)])


class TestLoading:
    def test_pickled_weights(self, folders, tmp_path, run):
        folder = shutil.copytree(folders["ldm"], tmp_path / "ldm")
        state = weights.read_state(folder / "unet/diffusion_pytorch_model.safetensors")
        torch.save(state, folder / "unet/diffusion_pytorch_model.bin")
        (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
        with pytest.raises(WeightsError, match=r"unet: pickled weights only.*models convert"):
            load("diffusers", folder)
        assert run("models", "convert", folder).exit_code == 0
        converted = load("diffusers", folder).fingerprint
        assert converted == load("diffusers", folders["ldm"]).fingerprint

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [("LDMSuperResolutionPipeline", "FluxPipeline", "FluxPipeline is not one of"),
         ('"diffusers",', '"os",', "code of neither"),
         ('"_class', '"vae": [], "_class', "vae: code of neither")],
    )  # fmt: skip
    def test_other_pipelines(self, folders, tmp_path, old, new, words):
        text = (folders["ldm"] / "model_index.json").read_text()
        (tmp_path / "model_index.json").write_text(text.replace(old, new))
        with pytest.raises(WeightsError, match=words):
            load("diffusers", tmp_path)

    @pytest.mark.parametrize(
        ("kind", "config", "words"),
        [
            ("ldm", {"prompt": "a cat"}, "no setting prompt"),
            ("ldm", {"strength": 0.5}, "no setting strength"),
            ("ldm", {"steps": 0}, "steps"),
            ("ldm", {"setps": 4}, "setps"),
            ("upscale", {"noise_level": 400}, "at most 350"),
            ("image_to_image", {"strength": 0.01, "steps": 4}, "no step"),
            ("ldm", {}, "tile 4"),  # all overlap
        ],
    )
    def test_wrong_settings(self, folders, kind, config, words):
        with pytest.raises(ConfigError, match=words):
            load("diffusers", folders[kind], config=config, tile=None if config else 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu(engines, folders, kind):
    """On a GPU, in batches of measured size, samples are those of the CPU but for rounding."""
    _, settings = KINDS[kind]
    engine = load("diffusers", folders[kind], config=settings, device="cuda")
    seeds = np.arange(4)
    far = engine.samples(IMAGE, seeds).astype(int) - engines[kind].samples(IMAGE, seeds)
    assert np.quantile(np.abs(far), 0.99) <= 1
