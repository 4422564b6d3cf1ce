"""`trustscale models import`: model files become embedded upscalers, or are refused in a line."""

import json

import onnx
import onnx.parser
import pytest
import torch

pytest.importorskip("spandrel", reason="needs trustscale-worker[import]")
pytest.importorskip("ncnn", reason="needs trustscale-worker[import]")

from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

from tests.upscalers.test_embedded import SAME, file_of
from tests.workers.fakes import Bomb
from tests.workers.ncnn_files import dense, ncnn, shuffled
from tests.workers.test_community import save_compact
from trustscale_server.bootstrap.settings import load_settings
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler, tile_plan
from trustscale_worker import weights
from trustscale_worker.files import file_sha256

# Some of spandrel's architectures still use what torch has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
]


def compact(path):
    """A tiny SRVGGNetCompact of two times: three convolutions of 3 x 3."""
    saved = save_compact(path.with_suffix(".safetensors"), num_feat=4, num_conv=1)
    if path != saved:
        torch.save({"params": weights.read_state(saved)}, path)
    return path


@pytest.fixture
def load(run, tmp_path):
    return lambda path, *options: run(
        "models", "import", path, "--config", tmp_path / "trustscale.toml", "--json", *options
    )


@pytest.mark.parametrize(
    ("make", "file"),
    [(compact, "a.pth"), (compact, "a.safetensors"), (dense, "a.param"), (shuffled, "a.param")],
)
def test_imported(load, tmp_path, monkeypatch, make, file):
    """The ONNX file computes what the model's library does, and the service can serve it."""
    source = make(tmp_path / file)
    result = load(source)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["name"], document["scale"], document["halo"]) == ("a", 2, 3)
    assert document["largest_difference"] < 0.01
    assert document["psnr_db"] is None or document["psnr_db"] > 90
    made = tmp_path / "a.onnx"
    assert file_sha256(source) in str(onnx.load(made).metadata_props)
    monkeypatch.setenv("TRUSTSCALE_CONFIG", str(tmp_path / "trustscale.toml"))
    entries = load_settings(data_dir=tmp_path).upscalers
    assert [entry.name for entry in entries] == [*SHIPPED_MODELS, "a"]
    upscaler = EmbeddedUpscaler(
        "a", entries[-1].model, tile_plan(entries[-1].model, halo=entries[-1].halo)
    )
    assert upscaler.plan.halo == 3
    assert upscaler.settings["weights"] == file_sha256(made)


class TestOnnx:
    def test_taken_as_it_is(self, load, tmp_path):
        """The entry names the file itself; a picture of one's own is compared; no name twice."""
        path = file_of(tmp_path / "same.onnx", SAME)
        before = path.read_bytes()
        document = json.loads(load(path).stdout)
        assert (document["scale"], document["halo"], document["psnr_db"]) == (1, 0, None)
        assert path.read_bytes() == before
        again = load(path)
        assert again.exit_code == 2
        assert "has an upscaler same" in again.stderr
        assert (tmp_path / "trustscale.toml").read_text().count("[[upscalers]]") == (
            len(SHIPPED_MODELS) + 1
        )

    def test_whole_picture(self, load, tmp_path):
        path = file_of(
            tmp_path / "mean.onnx",
            """half = Constant <value_float = 0.5> ()
               mean = GlobalAveragePool(x)
               both = Add(x, mean)
               y = Mul(both, half)""",
        )
        assert "more than 64 away" in load(path).stderr
        assert json.loads(load(path, "--halo", 16).stdout)["halo"] == 16


def _bomb(folder):
    torch.save(
        {"state_dict": {"a": torch.zeros(1)}, "bomb": Bomb(folder / "trap")}, folder / "a.pth"
    )
    return folder / "a.pth"


def _claims(folder):
    """Four bytes that claim to be a tensor of a terabyte."""
    torch.save({"a": torch.zeros(1).expand(2**19, 2**19)}, folder / "a.pth")
    return folder / "a.pth"


def _fixed(folder):
    """A network whose traced graph holds the size of the trial."""
    network = SwinIR(upscale=2, img_size=16, window_size=8, depths=[2], embed_dim=16,
                     num_heads=[2], upsampler="pixelshuffledirect")  # fmt: skip
    torch.save(network.state_dict(), folder / "a.pth")
    return folder / "a.pth"


def _drawing(folder):
    return file_of(
        folder / "a.onnx",
        """noise = RandomNormalLike <scale = 0.1> (x)
           y = Add(x, noise)""",
    )


def _elsewhere(folder):
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> toy (float[1,3,h,w] x) => (float[1,3,H,W] y) '
        "<float[2] c = {0.0, 1.0}> {y = Identity(x)}"
    )
    [constant] = model.graph.initializer
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="../secret")
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    return folder / "a.onnx"


def _changed(change):
    def make(folder):
        weights = dense(folder / "a.param").with_suffix(".bin")
        weights.write_bytes(change(weights.read_bytes()))
        return folder / "a.param"

    return make


def _written(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _layers(*layers):
    return lambda folder: ncnn(folder / "a.param", "Input in 0 1 in", *layers)


@pytest.mark.parametrize(
    ("make", "words"),
    [(_bomb, "nothing in it was executed"), (_claims, "no plain tensors"),
     (_fixed, "where the original makes"), (_drawing, "differs from the original"),
     (_elsewhere, "in another file"), (_changed(lambda data: data[:-4]), "too short"),
     (_changed(lambda data: data + bytes(8)), "8 bytes of the .bin file belong to no layer"),
     (_written("a.onnx", b"?"), "not an ONNX file"), (_written("a.pth", b"PK\x03\x04"), "damaged"),
     (lambda folder: folder / "none.pth", "No such file"), (_layers("LSTM l 1 1 in out"), "LSTM"),
     (_layers("ReLU r 1 1 other out"), "nothing makes its input"),
     (_layers("Input more 0 1 more"), "a second input"),
     (_layers("Convolution c 1 1 in out 0=1 1=9999 5=1 6=99980001"), "too short"),
     (_layers("Interp i 1 1 in out 0=1 1=1.0e+09 2=2.0"), "scales"),
     (_layers("Eltwise e 1 1 in out 0=7"), "this operation"),
     (_layers("PixelShuffle p 1 1 in out 0=1e20"), "parameter 0"),
     (_layers("MemoryData m 0 1 m 0=2147483647 1=2147483647 2=3"), "too short")],
)  # fmt: skip
def test_refused(load, tmp_path, make, words):
    result = load(make(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith("trustscale: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not (tmp_path / "trap").exists()
    assert not (tmp_path / "trustscale.toml").exists()


def test_kept(load, tmp_path):
    path = compact(tmp_path / "a.pth")
    (tmp_path / "a.onnx").write_text("mine")
    assert "give --force" in load(path).stderr
    assert (tmp_path / "a.onnx").read_text() == "mine"
    assert load(path, "--force").exit_code == 0
    assert "letters, digits" in load(path, "--force", "--name", "a b").stderr
    assert "No such file" in load(path, "--force", "--picture", tmp_path / "none.png").stderr
