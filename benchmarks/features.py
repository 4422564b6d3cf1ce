"""What the embedded SPAN's own features cost in a pass: `python -m benchmarks.features`.

Three of its maps (156 channels), their log energies in cells of 5 × 5 and over the window, and a
head of 1 × 1 layers 312 → 32 → 16 → 1 with random weights, as further nodes of the ONNX file. One
thread, processor time, medians of rounds in which every variant has its turn.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import onnx
import openvino
from onnx import helper, numpy_helper

from app.upscalers.runtime import has_bf16
from app.upscalers.shipped import SHIPPED
from benchmarks.table import print_table

MAPS = (
    "/block_1/Mul_output_0",
    "/conv_2/eval_conv/Conv_output_0",
    "/block_6/act1_1/Mul_output_0",
)
CHANNELS = 52


def with_outputs(names: tuple[str, ...]) -> onnx.ModelProto:
    """The network with these values as further outputs."""
    model = onnx.load_from_string(SHIPPED["span-x4"].read())
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    return model


def with_head(stride: int) -> onnx.ModelProto:
    """The network with a head on the energies of its maps, in cells that lie `stride` apart."""
    model, rng = with_outputs(("doubt",)), np.random.default_rng(0)
    graph = model.graph

    def node(kind: str, *inputs: str, to: str = "", **attributes: object) -> str:
        name = to or f"head_{len(graph.node)}"
        graph.node.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def layer(value: str, takes: int, gives: int, to: str = "") -> str:
        weights = rng.normal(0, 0.1, (gives, takes, 1, 1)).astype(np.float32)
        name = f"weights_{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(weights, name))
        return node("Conv", value, name, to=to)

    pads = [0] * 4 if stride == 5 else [2] * 4
    cells, wholes = [], []
    for name in MAPS:
        energy = node("Mul", name, name)
        cells.append(
            node("AveragePool", energy, kernel_shape=[5, 5], strides=[stride] * 2, pads=pads)
        )
        wholes.append(node("GlobalAveragePool", cells[-1]))
    local = layer(node("Log", node("Concat", *cells, axis=1)), 3 * CHANNELS, 32)
    whole = layer(node("Log", node("Concat", *wholes, axis=1)), 3 * CHANNELS, 32)
    hidden = node("Relu", layer(node("Relu", node("Add", local, whole)), 32, 16))
    layer(hidden, 16, 1, to="doubt")
    return model


def compiled(model: onnx.ModelProto, precision: str) -> openvino.InferRequest:
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    network = core.read_model(model.SerializeToString())
    return core.compile_model(network, "CPU", options).create_infer_request()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--side", type=int, nargs="+", default=[128, 256])
    words.add_argument("--rounds", type=int, default=15)
    given = words.parse_args()
    variants = {
        "a pass": with_outputs(()),
        "its three maps as outputs": with_outputs(MAPS),
        "a head on cells side by side": with_head(5),
        "a head on cells around every pixel": with_head(1),
    }
    rows = []
    for precision in ("bf16", "f32") if has_bf16() else ("f32",):
        networks = {name: compiled(model, precision) for name, model in variants.items()}
        for side in given.side:
            image = np.random.default_rng(0).random((1, 3, side, side), np.float32)
            spent: dict[str, list[float]] = {name: [] for name in networks}
            for _ in range(given.rounds + 2):
                for name, network in networks.items():
                    started = time.process_time()
                    network.infer([image], share_inputs=True, share_outputs=True)
                    spent[name].append(time.process_time() - started)
            medians = {name: statistics.median(values[2:]) for name, values in spent.items()}
            base = medians["a pass"]
            rows += [
                [precision, side, name, f"{1000 * value:.0f}", f"{value / base - 1:+.3f}"]
                for name, value in medians.items()
            ]
    print_table(["precision", "side", "what", "ms", "of a pass"], rows)


if __name__ == "__main__":
    main()
