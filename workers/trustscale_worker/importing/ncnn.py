"""ncnn models (`.param` and `.bin`), as Upscayl uses them: read, and written as ONNX.

A `.param` file lists layers as text, the `.bin` file their weights in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from trustscale_worker.errors import WeightsError

_MAX_LAYERS = 10_000
_HALF, _SINGLE = 0x01306B47, 0x0002C056  # how a `.bin` file marks weights of 16 and 32 bits
_ALL = -233  # "to the end", among ncnn's axes and indices
_LARGEST = 2**31  # of sizes and counts
_ARRAYS = -23300  # the key of array k is this number minus k


@dataclass(frozen=True)
class Layer:
    """One line of a `.param` file; its parameters as lists."""

    type: str
    name: str
    inputs: list[str]
    outputs: list[str]
    params: Mapping[int, list[float]]

    def numbers(self, key: int) -> list[float]:
        """Return a parameter as numbers; empty if it is not given."""
        return self.params.get(key, [])

    def number(self, key: int, default: float = 0.0) -> float:
        """Return a parameter that is one number, or raise WeightsError."""
        values = self.numbers(key) or [default]
        if len(values) != 1:
            raise self.refused(f"parameter {key} is a list")
        return values[0]

    def wholes(self, key: int) -> list[int]:
        """Return a parameter of whole numbers, or raise WeightsError."""
        values = self.numbers(key)
        if any(value != int(value) or abs(value) >= _LARGEST for value in values):
            raise self.refused(f"parameter {key} is {values}")
        return [int(value) for value in values]

    def whole(self, key: int, default: int = 0) -> int:
        """Return a parameter that is one whole number, or raise WeightsError."""
        self.number(key)
        return (self.wholes(key) or [default])[0]

    def refused(self, reason: str) -> WeightsError:
        return WeightsError(f"layer {self.name} ({self.type}): {reason}; not supported")


def to_onnx(param: Path, weights: Path) -> onnx.ModelProto:
    """Return the network as an ONNX model, NCHW float32 with free sides.

    Raises WeightsError: a damaged file, or an unknown layer.
    """
    try:
        text, data = param.read_text("utf-8"), weights.read_bytes()
    except OSError as error:
        raise WeightsError(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{param}: no text; only .param files in text can be read") from error
    return _Graph(data).model(_layers(text, param))


def _layers(text: str, param: Path) -> list[Layer]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != "7767517":
        raise WeightsError(f"{param}: not a .param file of ncnn")
    if len(lines) > _MAX_LAYERS:
        raise WeightsError(f"{param}: more than {_MAX_LAYERS} layers")
    try:
        return [_layer(line.split()) for line in lines[2:] if line.strip()]
    except (ValueError, IndexError, OverflowError) as error:
        raise WeightsError(f"{param}: damaged ({error})") from error


def _layer(words: list[str]) -> Layer:
    kind, name, takes, gives, *tail = words
    inputs_end, outputs_end = int(takes), int(takes) + int(gives)
    pairs = (word.split("=") for word in tail[outputs_end:])
    params = (_parameter(int(key), text) for key, text in pairs)
    return Layer(kind, name, tail[:inputs_end], tail[inputs_end:outputs_end], dict(params))


def _parameter(key: int, text: str) -> tuple[int, list[float]]:
    """Arrays have a key of their own and begin with their length."""
    if key <= _ARRAYS:
        return _ARRAYS - key, [_number(number) for number in text.split(",")[1:]]
    return key, [_number(text)]


def _number(text: str) -> float:
    number = float(text)
    if not abs(number) <= np.finfo(np.float32).max:  # False for NaN, too
        raise ValueError(f"{text[:40]} is no number of 32 bits")
    return number


@dataclass
class _Graph:
    """A growing ONNX graph; `data` is the `.bin` file."""

    data: bytes
    read: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    blobs: dict[str, str] = field(default_factory=dict)
    unused: dict[str, None] = field(default_factory=dict)

    def model(self, layers: list[Layer]) -> onnx.ModelProto:
        for layer in layers:
            self._take(layer)
        if self.read != len(self.data):
            raise WeightsError(
                f"{len(self.data) - self.read} bytes of the .bin file belong to no layer"
            )
        if "input" not in self.blobs.values() or len(self.unused) != 1:
            raise WeightsError(
                f"a network of one input and {len(self.unused)} outputs; 1 is needed"
            )
        [output] = self.unused
        self.nodes.append(helper.make_node("Identity", [self.blobs[output]], ["output"]))
        sides: tuple[list[int | str], list[int | str]] = ([1, 3, "h", "w"], [1, 3, "H", "W"])
        ports = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in zip(("input", "output"), sides, strict=True)
        ]
        graph = helper.make_graph(self.nodes, "ncnn", ports[:1], ports[1:], self.constants)
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=9, producer_name="trustscale"
        )

    def _take(self, layer: Layer) -> None:
        try:
            inputs = [self.blobs[name] for name in layer.inputs]
        except KeyError as error:
            raise layer.refused(f"nothing makes its input {error}") from None
        for name in layer.inputs:
            self.unused.pop(name, None)
        if layer.type in {"Input", "Split", "Noop", "Dropout"}:
            if layer.type == "Input":
                if "input" in self.blobs.values():
                    raise layer.refused("a second input")
                inputs = ["input"]
            outputs = inputs[:1] * len(layer.outputs)
        elif layer.type in _LAYERS:
            outputs = [_LAYERS[layer.type](self, layer, inputs)]
        else:
            raise layer.refused("a layer of this type")
        if len(outputs) != len(layer.outputs) or not outputs:
            raise layer.refused(f"{len(layer.inputs)} inputs and {len(layer.outputs)} outputs")
        for name, value in zip(layer.outputs, outputs, strict=True):
            self.blobs[name] = value
            self.unused[name] = None

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        array: NDArray[Any] = np.ascontiguousarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, layer: Layer, count: int, *, marked: bool) -> NDArray[np.float32]:
        """The next weights, float32 [count]; `marked`: a word before them gives their type."""
        kind: np.dtype[Any] = np.dtype("<f4")
        if marked:
            [mark] = self._next(layer, np.dtype("<u4"), 1)
            if mark not in {0, _HALF, _SINGLE}:
                raise layer.refused("weights of 8 bits")
            kind = np.dtype("<f2") if mark == _HALF else kind
        values = self._next(layer, kind, count).astype(np.float32)
        self.read += -self.read % 4  # halves are padded to whole words
        if not np.isfinite(values).all():
            raise layer.refused("weights that are no numbers")
        return values

    def _next(self, layer: Layer, kind: np.dtype[Any], count: int) -> NDArray[Any]:
        size = count * kind.itemsize
        if count < 1 or size > len(self.data) - self.read:
            raise WeightsError(f"layer {layer.name}: the .bin file is too short for it")
        self.read += size
        return np.frombuffer(self.data, kind, count, self.read - size)


def _convolution(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    width, outputs, groups = layer.whole(1), layer.whole(0), layer.whole(7, 1)
    kernel = [layer.whole(11, width), width]
    left = layer.whole(4)
    top = layer.whole(14, left)
    pads = [top, left, layer.whole(16, top), layer.whole(15, left)]
    per_input = outputs * kernel[0] * kernel[1]
    if min(outputs, *kernel, groups) < 1 or layer.whole(6) % per_input or layer.whole(8):
        raise layer.refused("its sizes")
    if min(pads) < 0:
        raise layer.refused("this padding")
    values = graph.weights(layer, layer.whole(6), marked=True)
    operands = [*inputs, graph.constant(values.reshape(outputs, -1, *kernel))]
    if layer.whole(5):
        operands.append(graph.constant(graph.weights(layer, outputs, marked=False)))
    dilations = [layer.whole(12, layer.whole(2, 1)), layer.whole(2, 1)]
    strides = [layer.whole(13, layer.whole(3, 1)), layer.whole(3, 1)]
    shape: dict[str, Any] = {"kernel_shape": kernel, "pads": pads, "group": groups}
    convolved = graph.node("Conv", *operands, **shape, dilations=dilations, strides=strides)
    return _activation(graph, layer, convolved)


def _activation(graph: _Graph, layer: Layer, value: str) -> str:
    parameters = layer.numbers(10)
    match layer.whole(9), parameters:
        case 0, _:
            return value
        case 1, _:
            return graph.node("Relu", value)
        case 2, [slope]:
            return graph.node("LeakyRelu", value, alpha=slope)
        case 3, [lowest, highest]:
            return graph.node("Clip", value, graph.constant(lowest), graph.constant(highest))
        case 4, _:
            return graph.node("Sigmoid", value)
    raise layer.refused("this activation")


def _memory(graph: _Graph, layer: Layer, _: list[str]) -> str:
    width, height, channels = (layer.whole(key) for key in range(3))
    if not channels and not height:  # a vector has one value per channel
        width, height, channels = 1, 1, width
    shape = [1, max(channels, 1), max(height, 1), max(width, 1)]
    if min(width, height, channels) < 0 or layer.whole(11) or layer.whole(21, 1) != 1:
        raise layer.refused("this shape")
    return graph.constant(graph.weights(layer, math.prod(shape), marked=False).reshape(shape))


def _prelu(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    slopes = graph.weights(layer, layer.whole(0), marked=False)
    return graph.node("PRelu", *inputs, graph.constant(slopes.reshape(-1, 1, 1)))


def _relu(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    return graph.node("LeakyRelu", *inputs, alpha=layer.number(0))


def _clip(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    edges = (layer.number(0, float(np.finfo("f4").min)), layer.number(1, float(np.finfo("f4").max)))
    return graph.node("Clip", *inputs, *(graph.constant(edge) for edge in edges))


def _swish(graph: _Graph, _: Layer, inputs: list[str]) -> str:
    return graph.node("Mul", *inputs, graph.node("Sigmoid", *inputs))


def _plain(operator: str) -> Callable[[_Graph, Layer, list[str]], str]:
    return lambda graph, _, inputs: graph.node(operator, *inputs)


_BINARY = {0: "Add", 1: "Sub", 2: "Mul", 3: "Div", 4: "Max", 5: "Min", 6: "Pow", 7: "Sub", 8: "Div"}


def _binary(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    operation = layer.whole(0)
    if operation not in _BINARY:
        raise layer.refused(f"operation {operation}")
    operands = [*inputs, graph.constant(layer.number(2))] if layer.whole(1) else inputs
    if len(operands) != 2:
        raise layer.refused(f"{len(operands)} operands")
    # 7 and 8 are subtraction and division with operands swapped.
    return graph.node(_BINARY[operation], *(operands[::-1] if operation > 6 else operands))


def _eltwise(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    factors = layer.numbers(1)
    if not inputs or len(factors) not in {0, len(inputs)} or layer.whole(0) not in {0, 1, 2}:
        raise layer.refused("this operation")
    if layer.whole(0) == 1 and factors:
        pairs = zip(inputs, factors, strict=True)
        inputs = [graph.node("Mul", name, graph.constant(factor)) for name, factor in pairs]
    value = inputs[0]
    for name in inputs[1:]:
        value = graph.node(("Mul", "Add", "Max")[layer.whole(0)], value, name)
    return value


def _concat(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    axis = layer.whole(0)
    return graph.node("Concat", *inputs, axis=axis + 1 if axis >= 0 else axis)


def _shuffle(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    mode = "DCR" if layer.whole(1) else "CRD"
    return graph.node("DepthToSpace", *inputs, blocksize=layer.whole(0, 1), mode=mode)


def _interp(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    scales = layer.number(1, 1), layer.number(2, 1)
    if layer.whole(3) or layer.whole(4) or layer.whole(5) or layer.whole(6) or len(inputs) != 1:
        raise layer.refused("a fixed size or aligned corners")
    if not all(0 < scale <= 16 for scale in scales):
        raise layer.refused(f"scales {scales}")
    ways: dict[int, dict[str, Any]] = {
        1: {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor"},
        2: {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        3: {"mode": "cubic", "coordinate_transformation_mode": "half_pixel",
            "cubic_coeff_a": -0.75},
    }  # fmt: skip
    if layer.whole(0) not in ways:
        raise layer.refused("this interpolation")
    factors = graph.constant([1, 1, *scales])
    return graph.node("Resize", *inputs, "", factors, **ways[layer.whole(0)])


def _crop(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    starts, ends = layer.wholes(9), layer.wholes(10)
    axes = layer.wholes(11) or [*range(len(starts))]
    if not starts or not len(starts) == len(ends) == len(axes) or len(inputs) != 1:
        raise layer.refused("a crop without starts and ends")
    ends = [np.iinfo(np.int64).max if end == _ALL else end for end in ends]
    axes = [axis + 1 if axis >= 0 else axis for axis in axes]
    constants = (graph.constant(values, np.int64) for values in (starts, ends, axes))
    return graph.node("Slice", *inputs, *constants)


def _padding(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    top, bottom, left, right = (layer.whole(key) for key in range(4))
    modes = ("constant", "edge", "reflect")
    if not 0 <= layer.whole(4) < 3 or layer.whole(7) or layer.whole(8):
        raise layer.refused("this kind")
    pads = graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
    value = graph.constant(layer.number(5))
    return graph.node("Pad", *inputs, pads, value, mode=modes[layer.whole(4)])


_LAYERS: Mapping[str, Callable[[_Graph, Layer, list[str]], str]] = {
    "BinaryOp": _binary,
    "Clip": _clip,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthWise": _convolution,
    "Crop": _crop,
    "Eltwise": _eltwise,
    "Interp": _interp,
    "MemoryData": _memory,
    "PReLU": _prelu,
    "Padding": _padding,
    "PixelShuffle": _shuffle,
    "ReLU": _relu,
    "Sigmoid": _plain("Sigmoid"),
    "Swish": _swish,
    "TanH": _plain("Tanh"),
}
