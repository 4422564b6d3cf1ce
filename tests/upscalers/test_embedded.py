"""The embedded upscaler, and how requests share its threads."""

import asyncio
import threading

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image
from skimage import data

from harness.factories import photo
from harness.fakes import Sink
from harness.waiting import cancelled
from trustscale_server.platform.errors import ConfigError, UpscalerUnavailable
from trustscale_server.sampling.draw import draw
from trustscale_server.upscalers.base import Capabilities, Source
from trustscale_server.upscalers.embedded.onnx_model import OnnxModel
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.threads import FairThreads
from trustscale_server.upscalers.embedded.tiles import TilePlan
from trustscale_server.upscalers.embedded.upscaler import (
    EmbeddedUpscaler,
    symmetric_sample,
    tile_plan,
)
from trustscale_server.upscalers.symmetries import sample_seeds

# Networks from x to y, as the nodes of ONNX's textual form.
SAME = "y = Identity(x)"
TWICE = """
    scales = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
    y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
        nearest_mode = "floor"> (x, , scales)
"""


def affine(factor, offset):
    return f"""
        factor = Constant <value_float = {factor:f}> ()
        offset = Constant <value_float = {offset:f}> ()
        scaled = Mul(x, factor)
        y = Add(scaled, offset)
    """


def file_of(path, nodes, takes="float[1, 3, h, w]", gives="float[1, 3, H, W]"):
    head = '<ir_version: 9, opset_import: ["" : 17]>'
    onnx.save(onnx.parser.parse_model(f"{head} toy ({takes} x) => ({gives} y) {{{nodes}}}"), path)
    return path


@pytest.fixture(scope="module")
def span():
    return EmbeddedUpscaler()


class TestShippedModel:
    def test_better_than_bicubic(self, span):
        assert (span.name, span.kind, span.scale) == ("span-x4", "embedded", 4)
        assert span.capabilities == Capabilities(max_samples=96, by_tiles=True, takes_16_bit=True)
        assert span.plan == TilePlan(288, 21)
        truth = data.astronaut()[:240, 80:400]
        large = Image.fromarray(truth)
        small = large.resize((80, 60), Image.Resampling.BICUBIC)
        bicubic = np.asarray(small.resize(large.size, Image.Resampling.BICUBIC))
        output = span.model(np.asarray(small))
        assert output.shape == truth.shape
        assert psnr(output, truth) > psnr(bicubic, truth) + 2

    def test_one_network_for_all(self, span):
        """Upscalers of one model share its network, which takes most of their memory."""
        assert EmbeddedUpscaler("other").model is span.model
        assert EmbeddedUpscaler("other", threads=1).model is not span.model

    @pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 5), (10, 600), (600, 10)])
    def test_any_size(self, span, shape):
        image = np.full((*shape, 3), (60, 120, 200), np.uint8)
        output = symmetric_sample(span.model, image, 13, span.plan)
        assert output.shape == (4 * shape[0], 4 * shape[1], 3)
        assert output.dtype == np.uint8
        assert np.abs(output.mean(axis=(0, 1)) - image[0, 0]).max() < 4

    @pytest.mark.parametrize("name", SHIPPED_MODELS)
    def test_halo_is_the_radius(self, name):
        """A pixel changes outputs as far away as the halo says, and none farther."""
        model = EmbeddedUpscaler(name, name).model
        session, radius = model.session, SHIPPED_MODELS[name].halo
        side = 2 * radius + 9
        image = np.random.default_rng(0).random((1, 3, side, side)).astype(np.float32)
        before = session.run(image).copy()
        # Far beyond what an image holds, so that the outermost weights show.
        image[..., side // 2, side // 2] += 1e4
        moved = np.abs(session.run(image) - before).max(axis=(0, 1)) > 0
        reach = np.flatnonzero(moved.any(axis=0))
        middle = 4 * (side // 2)
        assert 4 * (radius - 1) < middle - reach[0] <= 4 * radius
        assert 4 * (radius - 1) <= reach[-1] - (middle + 3) <= 4 * radius


class TestGenerate:
    async def test_samples(self, span):
        source = Source(photo(0, 24, 30))
        seeds = sample_seeds(42, 16)
        samples = np.array(await span.generate(source, seeds))
        assert samples.shape == (16, 96, 120, 3)
        assert np.array_equal(samples[2:3], await span.generate(source, seeds[2:3]))
        assert len({sample.tobytes() for sample in samples[:8]}) == 8
        assert np.ptp(samples.astype(int), axis=0).mean() < 12  # none is turned or recoloured

    async def test_cancelled_within_one_tile(self, tmp_path):
        """The loop stays free: it returns at once, and its thread computes no further tile."""
        upscaler, gate = gated(tmp_path)
        call = asyncio.create_task(upscaler.generate(Source(photo(0, 60, 60)), [1, 2, 3]))
        await cancelled(call, gate.entered.is_set)
        gate.open.set()
        # One thread makes all samples: it begins this one when it has let go of the others.
        await upscaler.generate(Source(photo(0, 9, 9)), [1])
        assert gate.calls == 1 + 1

    async def test_progress_counts_tiles(self, tmp_path):
        upscaler = EmbeddedUpscaler("m", file_of(tmp_path / "m.onnx", TWICE), TilePlan(16, 2))
        steps = []
        sink = Sink(on_progress=lambda *step: steps.append(step))
        await draw(upscaler, Source(photo(0, 20, 30)), [1, 2], sink=sink)
        assert [*dict.fromkeys(steps)] == [(done, 12, "tiles") for done in range(1, 13)]

    async def test_tiles_are_shown(self, tmp_path):
        """Those of the first sample, each once, as they are in the end."""
        upscaler = EmbeddedUpscaler("m", file_of(tmp_path / "m.onnx", TWICE), TilePlan(16, 2))
        samples, shown = {}, np.zeros((40, 60, 3), np.uint8)

        def look(sample, rows, columns):
            assert not shown[rows, columns].any()
            shown[rows, columns] = sample[rows, columns]

        sink = Sink(on_tile=look, on_sample=samples.__setitem__)
        await draw(upscaler, Source(photo(0, 20, 30) | 1), [1, 2], sink=sink)
        assert np.array_equal(shown, samples[0])

    async def test_close_stops_calls(self, tmp_path):
        upscaler, gate = gated(tmp_path)
        call = asyncio.create_task(upscaler.generate(Source(photo(0, 60, 60)), [1]))
        await asyncio.to_thread(gate.entered.wait, 60)
        await upscaler.close()
        gate.open.set()
        for later in (call, upscaler.generate(Source(photo(0, 9, 9)), [1])):
            with pytest.raises(UpscalerUnavailable):
                await later


def test_what_it_covers(span, tmp_path):
    """Bytes of the weights and tile plan, but neither name nor place of the file."""
    first = EmbeddedUpscaler("a", file_of(tmp_path / "a.onnx", SAME))
    again = EmbeddedUpscaler("b", file_of(tmp_path / "b.onnx", SAME))
    other = EmbeddedUpscaler("a", file_of(tmp_path / "c.onnx", affine(1, 1e-4)))
    assert first.fingerprint == again.fingerprint
    plans = [
        EmbeddedUpscaler(plan=tile_plan("span-x4", **change)).fingerprint
        for change in ({"tile": 256}, {"halo": 22})
    ]
    assert len({first.fingerprint, other.fingerprint, span.fingerprint, *plans}) == 5


class TestOnnxModel:
    @pytest.mark.parametrize(
        ("offset", "found"),
        [(0.501 / 255, [1, 101, 255]), (0.499 / 255, [0, 100, 255]), (-0.2, [0, 49, 204])],
    )
    def test_rounds_half_up_and_clips(self, tmp_path, offset, found):
        """Just over half a step rounds up, just under down, and 0 and 255 are the ends."""
        file = file_of(tmp_path / "m.onnx", affine(1, offset))
        model = OnnxModel(file.read_bytes(), name="m.onnx")
        assert model(np.array([[[0, 100, 255]]], np.uint8)).tolist() == [[found]]

    def test_no_model(self, tmp_path):
        path = tmp_path / "weights.onnx"
        assert str(path) in refusal(path)
        for text in ("not a model\n", ""):
            path.write_text(text)
            assert "weights.onnx is not an ONNX model" in refusal(path)

    @pytest.mark.parametrize(
        ("nodes", "takes", "gives", "reason"),
        [
            (SAME, "float[1, 3, 16, 24]", "float[1, 3, 16, 24]", "fixed"),
            (SAME, "float[1, 1, h, w]", "float[1, 1, h, w]", "its input is"),
            (SAME, "float[a, b]", "float[a, b]", "its input is"),
            (SAME, "double[1, 3, h, w]", "double[1, 3, h, w]", "not float32"),
            (affine(255, 0), "float[1, 3, h, w]", "float[1, 3, h, w]", "mean output"),
            ("y = Flatten(x)", "float[1, 3, h, w]", "float[a, b]", "it made"),
            ("y = Transpose <perm = [0, 1, 3, 2]> (x)", "float[1, 3, h, w]", "float[1, 3, w, h]",
             "it made"),
        ],
    )  # fmt: skip
    def test_another_kind_of_network(self, tmp_path, nodes, takes, gives, reason):
        message = refusal(file_of(tmp_path / "other.onnx", nodes, takes, gives))
        assert "other.onnx is not" in message
        assert reason in message


class Gate:
    """A model that waits in its first call until the test opens it."""

    def __init__(self, scale):
        self.scale = scale
        self.calls = 0
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, rgb):
        self.calls += 1
        self.entered.set()
        assert self.open.wait(60)
        return rgb.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def gated(folder):
    upscaler = EmbeddedUpscaler("m", file_of(folder / "m.onnx", TWICE), TilePlan(16, 2))
    upscaler.model = gate = Gate(scale=2)
    return upscaler, gate


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        EmbeddedUpscaler(model=path)
    assert "\n" not in caught.value.detail
    return caught.value.detail


def psnr(image, truth):
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - truth) ** 2)))


class Services:
    """Parts that note their order; the first one waits until the test lets it."""

    def __init__(self):
        self.done: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def of(self, name, count):
        return [lambda: self.do(name)] * count

    def do(self, name):
        self.begun.set()
        assert self.go_on.wait(60)
        self.done.append(name)


@pytest.fixture
def parts():
    return Services()


@pytest.fixture
def threads():
    threads = FairThreads(1, "test")
    yield threads
    threads.close()


async def first(threads, parts, name, count, cost):
    task = asyncio.create_task(threads.run(name, parts.of(name, count), cost))
    await asyncio.to_thread(parts.begun.wait, 60)
    return task


@pytest.mark.parametrize(
    ("large", "others", "order"),
    [((5, 9), [("second", 3, 9), ("tiny", 1, 9)], "ltslslsll"),
     ((3, 40), [("small", 7, 10)], "lslsssslss")],
    ids=["the smallest first, then in turn", "several small ones for each large one"],
)  # fmt: skip
async def test_order(threads, parts, large, others, order):
    tasks = [await first(threads, parts, "large", *large)]
    for name, count, cost in others:
        tasks.append(asyncio.create_task(threads.run(name, parts.of(name, count), cost)))
    await asyncio.sleep(0)
    parts.go_on.set()
    await asyncio.gather(*tasks)
    assert "".join(name[0] for name in parts.done) == order


async def test_an_error_ends_the_request(threads, parts):
    parts.go_on.set()

    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await threads.run("one", [fail, *parts.of("one", 3)], 9)
    await threads.run("other", parts.of("other", 1), 9)
    assert parts.done == ["other"]
