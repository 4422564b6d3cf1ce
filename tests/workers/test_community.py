"""Community models through spandrel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("spandrel", reason="needs trustscale[worker]")

import spandrel
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

from app.upscalers import symmetry
from workers import weights
from workers.errors import Cancelled, ConfigError, WeightsError
from workers.models.community import MARGIN, CommunityEngine
from workers.models.engine import Job
from workers.models.registry import EngineSpec, load_engine

# Some of spandrel's architectures still use what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def _save(path, **options):
    torch.manual_seed(0)
    given = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 24, "num_conv": 2, "upscale": 2}
    network = SRVGGNetCompact(**{**given, **options})
    weights.write_safetensors(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return _save(tmp_path_factory.mktemp("models") / "compact_x2.safetensors")


@pytest.fixture(scope="module")
def engine(path):
    return CommunityEngine.from_file(path)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


class TestLoading:
    def test_architecture_is_recognised(self, path):
        """A file alone gives the model, its scale and, from its name, what to call it."""
        engine = load_engine(EngineSpec("spandrel", path))
        assert (engine.name, engine.scale, engine.distinct_samples) == ("compact_x2", 2, 96)

    def test_wrapped_pickle_is_the_same_model(self, path, engine, tmp_path):
        """A .pth with the usual wrapper has the fingerprint of the bare weights."""
        torch.save({"params": weights.read_state(path)}, tmp_path / "wrapped.pth")
        wrapped = CommunityEngine.from_file(tmp_path / "wrapped.pth")
        assert wrapped.fingerprint == engine.fingerprint

    def test_fingerprint(self, path, engine, tmp_path):
        """Other weights, precision or tiles are another fingerprint."""
        other = _save(tmp_path / "other.safetensors", num_conv=3)
        prints = {
            engine.fingerprint,
            CommunityEngine.from_file(other).fingerprint,
            CommunityEngine.from_file(path, dtype="bfloat16").fingerprint,
            CommunityEngine.from_file(path, tile=256).fingerprint,
        }
        assert len(prints) == 4

    def test_unknown_architecture(self, tmp_path):
        """Weights that spandrel does not know are refused in words."""
        weights.write_safetensors({"stranger": torch.zeros(3)}, tmp_path / "odd.safetensors")
        with pytest.raises(WeightsError, match="no architecture that spandrel knows"):
            CommunityEngine.from_file(tmp_path / "odd.safetensors")

    def test_mistaken_architecture(self, data):
        """Weights that only look like an architecture's are refused in one line."""
        with pytest.raises(WeightsError, match="cannot be loaded") as caught:
            CommunityEngine.from_file(data / "vq_tiny.pth")
        assert "\n" not in str(caught.value)

    def test_small_tile(self, path):
        """A tile that is all margin is refused."""
        with pytest.raises(ConfigError, match="tile 64"):
            CommunityEngine.from_file(path, tile=2 * MARGIN)


class TestSamples:
    def test_first_sample_is_the_model(self, path, engine, image):
        """Seed 0 is the identity: the network's plain answer."""
        network = spandrel.ModelLoader().load_from_state_dict(weights.read_state(path))
        lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        want = (network(lr)[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
        assert np.array_equal(engine.samples(image, np.array([0]))[0], want.numpy())

    def test_seed_names_a_symmetry(self, engine, image):
        """Seed s changes the image by element s % 96, and changes the answer back."""
        [sample] = engine.samples(image, np.array([96 * 5 + 29]))
        [plain] = engine.samples(symmetry.apply(image, 29), np.array([0]))
        assert np.array_equal(sample, symmetry.undo(plain, 29))

    def test_all_elements(self, engine, image):
        """All 96 elements give samples of the right size, and mostly different ones."""
        rows = engine.samples(image, np.arange(96))
        assert rows.shape == (96, 40, 60, 3)
        assert len({row.tobytes() for row in rows}) > 90

    def test_same_remainder_same_sample(self, engine, image):
        """Seeds with one remainder give one sample, negative ones too."""
        rows = engine.samples(image, np.array([5, 101, -91]))
        assert np.array_equal(rows[0], rows[1])
        assert np.array_equal(rows[0], rows[2])

    def test_tiles_do_not_show(self, path):
        """A network that looks less far than the margin gives the same in tiles."""
        image = np.random.default_rng(0).integers(0, 256, (90, 170, 3), np.uint8)
        seeds = np.array([0, 3])
        whole = CommunityEngine.from_file(path).samples(image, seeds)
        tiled = CommunityEngine.from_file(path, tile=80).samples(image, seeds)
        off = np.abs(whole.astype(int) - tiled)
        assert off.max() <= 1
        assert (off > 0).mean() < 1e-3

    def test_colorization_size(self, tmp_path, image):
        """A model of scale 1 gives results of the input's size."""
        engine = CommunityEngine.from_file(_save(tmp_path / "x1.safetensors", upscale=1))
        assert engine.samples(image, np.array([4])).shape == (1, 20, 30, 3)

    def test_cancelled(self, engine, image):
        """A job that nobody waits for is not run."""
        with pytest.raises(Cancelled):
            engine.samples_of([Job(image, np.arange(96), lambda: True)])
