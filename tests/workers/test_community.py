"""Community models through spandrel."""

import numpy as np
import pytest
import torch

pytest.importorskip("spandrel", reason="needs trustscale-worker")

from spandrel.architectures.AuraSR.__arch.aura_sr import UnetUpsampler
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFNet
from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

from tests.workers.fakes import load, noise
from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.symmetries import apply, undo
from trustscale_worker import weights
from trustscale_worker.errors import ClientGone, WeightsError
from trustscale_worker.models.community import MARGIN
from trustscale_worker.models.engine import SampleRequest

# Some of spandrel's architectures still use what torch has deprecated, or initialise nothing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning"),
]


IMAGE = noise(20, 30)


def save_compact(path, **options):
    torch.manual_seed(0)
    given = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 24, "num_conv": 2, "upscale": 2}
    network = SRVGGNetCompact(**{**given, **options})
    weights.write_safetensors(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_compact(tmp_path_factory.mktemp("models") / "compact_x2.safetensors")


@pytest.fixture(scope="module")
def engine(path):
    return load("spandrel", path)


class TestLoading:
    def test_recognised(self, path, engine, tmp_path):
        assert (engine.name, engine.scale, engine.distinct_samples) == ("compact_x2", 2, 96)
        torch.save({"params": weights.read_state(path)}, tmp_path / "wrapped.pth")
        assert load("spandrel", tmp_path / "wrapped.pth").fingerprint == engine.fingerprint

    def test_fingerprint(self, path, engine, tmp_path):
        other = save_compact(tmp_path / "other.safetensors", num_conv=3)
        changed = load("spandrel", path, dtype="bfloat16"), load("spandrel", path, tile=256)
        engines = engine, load("spandrel", other), *changed
        assert len({one.fingerprint for one in engines}) == 4

    def test_unusable(self, path, data, tmp_path):
        weights.write_safetensors({"stranger": torch.zeros(3)}, tmp_path / "odd.safetensors")
        with pytest.raises(WeightsError, match="no architecture that spandrel knows"):
            load("spandrel", tmp_path / "odd.safetensors")
        with pytest.raises(WeightsError, match=r"^.*cannot be loaded.*$"):
            load("spandrel", data / "vq_tiny.pth")
        with pytest.raises(ConfigError, match="tile 64"):
            load("spandrel", path, tile=2 * MARGIN)


# Each as small as the architecture allows, and its scale.
SMALL = {"img_size": 64, "embed_dim": 24, "num_heads": [4], "upsampler": "pixelshuffledirect"}
ARCHITECTURES = {
    "ESRGAN": (lambda: RRDBNet(num_filters=16, num_blocks=2), 4),
    "SwinIR": (
        lambda: SwinIR(**{**SMALL, "num_heads": [4, 4]}, patch_size=1, depths=[2, 2],
                       window_size=8, mlp_ratio=2.0, upscale=4, img_range=1.0), 4,
    ),
    "NAFNet": (
        lambda: NAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(architecture, tmp_path):
    """Networks of many kinds, of scale 1 too, are recognised and give their own plain answer."""
    build, scale = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    network = build().eval()
    weights.write_safetensors(network.state_dict(), tmp_path / "model.safetensors")
    engine = load("spandrel", tmp_path / "model.safetensors")
    rows = engine.samples(IMAGE, np.array([0, 3, 96]))
    assert rows.shape == (3, 20 * scale, 30 * scale, 3)
    assert np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0], rows[1])
    lr = torch.from_numpy(apply(IMAGE, 3)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        plain = network(lr)[0].clamp(0, 1).mul(255).round().to(torch.uint8)
    off = rows[1].astype(int) - undo(plain.permute(1, 2, 0).numpy(), 3)
    assert np.abs(off).max() <= 1


class TestSamples:
    def test_tiles_do_not_show(self, path):
        image = noise(90, 170)
        seeds = np.array([0, 3])
        whole = load("spandrel", path).samples(image, seeds)
        tiled = load("spandrel", path, tile=80).samples(image, seeds)
        off = np.abs(whole.astype(int) - tiled)
        assert off.max() <= 1
        assert (off > 0).mean() < 1e-3

    def test_grey_input(self, tmp_path):
        """A model that sees grey, as colorization does, is sampled by turns and mirrors alone."""
        path = save_compact(tmp_path / "colours.safetensors", num_in_ch=1, upscale=1)
        engine = load("spandrel", path)
        assert engine.distinct_samples == 8
        rows = engine.samples(IMAGE, np.array([3, 8 * 5 + 3]))
        assert np.array_equal(rows[0], rows[1])
        [plain] = engine.samples(apply(IMAGE, 3), np.array([0]))
        assert np.array_equal(rows[0], undo(plain, 3))

    def test_cancelled_between_tiles(self, path):
        image = noise(90, 170)
        asked = []
        job = SampleRequest(image, np.arange(1), lambda: asked.append(1) or len(asked) > 3)
        with pytest.raises(ClientGone):
            load("spandrel", path, tile=80).samples_of([job])
        assert len(asked) == 5  # three tiles ran; then the job ends, and so does the call


@pytest.fixture(scope="module")
def aura(tmp_path_factory):
    """A small AuraSR, with an output that its style moves by many grey levels."""
    torch.manual_seed(0)
    network = UnetUpsampler(
        dim=8, image_size=None, input_image_size=None, mid_attn_depth=1, self_attn_dim_head=8,
        style_network={"dim_in": 16, "dim_out": 64, "depth": 2}, up_dim_mults=(1, 1, 1, 1, 1),
        down_dim_mults=(1, 1, 1), attn_depths=(2, 2, 2, 2, 2),
    )  # fmt: skip
    state = network.state_dict()
    for name, tensor in state.items():
        if name.startswith(("style", "final", "init_conv")) and tensor.ndim > 1:
            tensor.mul_(20)
    path = tmp_path_factory.mktemp("models") / "aura_x4.safetensors"
    weights.write_safetensors(state, path)
    return path


def test_drawing_models(aura):
    """Of a network that draws at random a seed gives the same bytes, also after a restart."""
    engine = load("spandrel", aura)
    assert engine.distinct_samples is None
    rows = engine.samples(IMAGE, np.array([3, 99, 3, -1, 2**40]))
    assert np.array_equal(rows[0], rows[2])
    assert len({row.tobytes() for row in rows}) == 4
    assert np.array_equal(load("spandrel", aura).samples(IMAGE, np.array([99]))[0], rows[1])
