"""Train the tiny restoration network of this folder, and write it as ONNX and as safetensors.

    python -m examples.restoration.train PHOTOS [--steps 8000]

PHOTOS has a manifest.csv that names the `source_file` of each photograph; those of `examples/` are
left out. The architecture is DnCNN (Zhang et al. 2017) without batch normalisation; it learns to
remove JPEG artefacts and Gaussian noise of unknown strength.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file

from trustscale_server.kinds.degradation import Degradation
from trustscale_server.kinds.degrade import make_input

HERE = Path(__file__).parent
NAME = "dncnn-tiny"
CHANNELS, LAYERS = 15, 8  # 13,068 weights, 52 kB; the receptive field is 17 × 17 pixels
HELD_OUT = ("cincinnati-bridge.jpg", "spacex-81773.jpg", "dog-lossless.png")
PATCH, BATCH = 48, 8

Batch = tuple[torch.Tensor, torch.Tensor]


class DnCNN(torch.nn.Module):
    """x − model(x): the network predicts what to remove."""

    def __init__(self) -> None:
        super().__init__()
        sides = [3, *[CHANNELS] * (LAYERS - 1), 3]
        layers: list[torch.nn.Module] = []
        for inner, outer in itertools.pairwise(sides):
            layer = torch.nn.Conv2d(inner, outer, 3, padding=1)
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layers += [layer, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers[:-1])
        last = self.model[-1]
        torch.nn.init.zeros_(last.weight)  # begins as the identity
        torch.nn.init.zeros_(last.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The restored image, float32 [n, 3, h, w] in about [0, 1]."""
        restored: torch.Tensor = x - self.model(x)
        return restored


def photographs(folder: Path) -> list[NDArray[np.uint8]]:
    """The photographs of a folder that are not held out, uint8 [h, w, 3] each."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        np.asarray(Image.open(folder / row["file"]).convert("RGB"))
        for row in rows
        if not row["source_file"].endswith(HELD_OUT)
    ]


def batch(photos: list[NDArray[np.uint8]], random: np.random.Generator) -> Batch:
    """Degraded patches and their truths, float32 [n, 3, h, w] in [0, 1]."""
    inputs, truths = [], []
    for _ in range(BATCH):
        photo = photos[random.integers(len(photos))]
        top, left = (int(random.integers(side - PATCH + 1)) for side in photo.shape[:2])
        truth = np.rot90(photo[top : top + PATCH, left : left + PATCH], random.integers(4))
        truth = np.ascontiguousarray(truth[:, ::-1] if random.random() < 0.5 else truth)
        if random.random() < 0.5:
            harm = Degradation(jpeg=int(random.integers(15, 61)))
        else:
            harm = Degradation(noise=float(random.uniform(8, 30)))
        inputs.append(make_input(truth, 1, harm, int(random.integers(2**31))).pixels)
        truths.append(truth)
    x, y = (torch.from_numpy(np.stack(items)).permute(0, 3, 1, 2) for items in (inputs, truths))
    return x.float() / 255, y.float() / 255


def train(photos: list[NDArray[np.uint8]], steps: int, seed: int = 0) -> DnCNN:
    """A network trained by L1 loss and Adam with a cosine schedule."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network, shown = DnCNN(), 1.0
    optimiser = torch.optim.Adam(network.parameters())
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (0.5 + 0.5 * np.cos(np.pi * step / steps)) * min(1, step / 100)
        x, y = batch(photos, random)
        loss = torch.nn.functional.l1_loss(network(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        shown = 0.99 * shown + 0.01 * float((x - y).abs().mean() / loss.detach())
        if step % 500 == 0:
            print(f"{step} steps, input error / output error {shown:.3f}", flush=True)  # noqa: T201
    return network.eval()


def to_onnx(network: DnCNN) -> onnx.ModelProto:
    """The network as ONNX: RGB in [0, 1], NCHW float32 with free sides, in and out."""
    nodes, weights, last = [], [], "image"
    for index, layer in enumerate(network.model):
        output = f"layer{index}"
        if isinstance(layer, torch.nn.Conv2d):
            names = [f"{index}.weight", f"{index}.bias"]
            for name, tensor in zip(names, (layer.weight, layer.bias), strict=True):
                weights.append(numpy_helper.from_array(tensor.detach().numpy(), name))
            nodes.append(helper.make_node("Conv", [last, *names], [output], pads=[1, 1, 1, 1]))
        else:
            nodes.append(helper.make_node("Relu", [last], [output]))
        last = output
    nodes.append(helper.make_node("Sub", ["image", last], ["restored"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"])
        for name in ("image", "restored")
    ]
    graph = helper.make_graph(nodes, NAME, ends[:1], ends[1:], weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="trustscale"
    )
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Train and write both files beside this one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    network = train(photographs(arguments.photos), arguments.steps)
    onnx.save(to_onnx(network), arguments.out / f"{NAME}.onnx")
    save_file(network.state_dict(), arguments.out / f"{NAME}.safetensors")


if __name__ == "__main__":
    main()
