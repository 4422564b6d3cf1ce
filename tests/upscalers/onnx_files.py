"""Tiny networks as ONNX files."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

FREE = (1, 3, "h", "w")


def write_model(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    shape=FREE,
    out_shape=(1, 3, "H", "W"),
    kind=TensorProto.FLOAT,
    constants=(),
) -> Path:
    """An ONNX file with one input "x" and one output "y"."""
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, out_shape)],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def nearest(path: Path, scale: int = 2, **kwargs) -> Path:
    """Nearest-neighbour upscaling as an ONNX file."""
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, scale, scale])
    node = helper.make_node(
        "Resize",
        ["x", "", "scales"],
        ["y"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return write_model(path, [node], constants=[scales], **kwargs)


def affine(path: Path, factor: float, offset: float, **kwargs) -> Path:
    """factor · x + offset as an ONNX file, scale 1."""
    constants = [
        helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
        helper.make_tensor("offset", TensorProto.FLOAT, [], [offset]),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["m"]),
        helper.make_node("Add", ["m", "offset"], ["y"]),
    ]
    return write_model(path, nodes, constants=constants, **kwargs)


def op(kind: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, ["x"], ["y"], **attributes)
