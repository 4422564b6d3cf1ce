"""Where faces are, so that a mask about colours is not read as a promise about who somebody is.

CenterFace (`models/MODEL_CARD.md`) says for each cell of 4×4 pixels how likely a face is centred
there, and how large it would be. It finds faces, and never compares or keeps them.

It looks at the upload, enlarged by no model, as a model may invent a face or remove one: in tiles,
so that memory is bounded, and then at coarser and coarser levels, since it misses large faces at
fine ones and tiles cut them in two. All levels together take a third more than the finest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FaceNetwork = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""CenterFace: RGB of 0 … 255, float32 [1, 3, h, w] with sides that 32 divides, to `_MAPS`."""

# Chosen by `benchmarks/faces.py`, whose tables are in docs/evidence.md.
_THRESHOLD: Final = 0.25
_MARGIN: Final = 0.1  # on each side, of that side
_MIN_ZOOM, _MAX_ZOOM = 2.0, 4.0
_SMALL: Final = 1024  # pixels on a side of what a small upload is enlarged to

_MAPS: Final = 5  # likelihood; logarithms of height and width; offsets down and right
_CELL: Final = 4  # pixels
_MULTIPLE: Final = 32
_TILE, _OVERLAP = 768, 64  # pixels of the enlarged picture; a tile takes up to 120 MB


class Face(NamedTuple):
    """A face: its box, in pixels, with a margin and within the picture; and how likely it is."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


FindFaces = Callable[[NDArray[np.uint8], int], list[Face]]
"""The faces of an upload, uint8 [H, W, 3], for an upscaler's scale, in pixels of the upload."""


def face_network_file() -> bytes:
    """Return the ONNX file of the network."""
    return resources.files(__package__).joinpath("models", "centerface.onnx").read_bytes()


def zoom_for(height: int, width: int, scale: int) -> float:
    """Return how much to enlarge an upload to find small faces, for an upscaler of this scale.

    Small ones most, since that costs little: twice suffices for faces of 8 pixels of the upload,
    four times for some of 5.
    """
    zoom = _SMALL / math.sqrt(height * width)
    return min(max(zoom, _MIN_ZOOM), _MAX_ZOOM, float(scale))


def find_faces(picture: NDArray[np.uint8], zoom: float, network: FaceNetwork) -> list[Face]:
    """Return the faces in an upload, uint8 [H, W, 3], surest first, in its own pixels.

    zoom: how much it is enlarged first; see `zoom_for`.
    """
    height, width, _ = picture.shape
    image = Image.fromarray(picture)
    # At 320 pixels a face that fills a picture is found.
    halvings = max(0, math.ceil(math.log2(max(height, width) * zoom / 320)))
    by_tile = [
        _in_tile(image, place, level, network)
        for level in (zoom / 2**halving for halving in range(halvings + 1))
        for place in _tiles(height, width, level)
    ]
    boxes = _distinct(np.concatenate(by_tile))
    sides = boxes[:, 2:4] - boxes[:, :2]
    boxes[:, :2] -= _MARGIN * sides
    boxes[:, 2:4] += _MARGIN * sides
    boxes[:, :4] = boxes[:, :4].clip(0, [width, height, width, height])
    return [Face(*map(float, box)) for box in boxes]


def _tiles(height: int, width: int, zoom: float) -> Iterator[tuple[int, int, int, int]]:
    """Tiles of one shape, as top, left, height and width, in pixels of the enlarged picture."""
    starts, tile = [], []
    for length in (max(1, round(side * zoom)) for side in (height, width)):
        several = max(1, -(-(length - _OVERLAP) // (_TILE - _OVERLAP)))
        tile.append(-(-(length + (several - 1) * _OVERLAP) // several))
        starts.append([round(start) for start in np.linspace(0, length - tile[-1], several)])
    for top, left in product(*starts):
        yield top, left, tile[0], tile[1]


def _in_tile(
    image: Image.Image, place: tuple[int, int, int, int], zoom: float, network: FaceNetwork
) -> NDArray[np.float64]:
    """The faces of a tile, [N, 5]: left, top, right and bottom in pixels of the image, score."""
    top, left, height, width = place
    box = left / zoom, top / zoom, (left + width) / zoom, (top + height) / zoom
    box = (*box[:2], min(box[2], image.width), min(box[3], image.height))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box))
    padded = (-(-side // _MULTIPLE) * _MULTIPLE for side in (height, width))
    tensor = np.zeros((1, 3, *padded), np.float32)
    tensor[0, :, :height, :width] = pixels.transpose(2, 0, 1)
    boxes = _distinct(_decoded(network(tensor)))
    boxes[:, :4] = (boxes[:, :4] + [left, top, left, top]) / zoom
    return boxes


def _decoded(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """The boxes and scores, [N, 5], of the cells whose likelihood reaches the threshold."""
    rows, columns = np.nonzero(maps[0, 0] >= _THRESHOLD)
    score, height, width, down, right = maps[0, :_MAPS, rows, columns].T.astype(np.float64)
    centre = _CELL * np.stack([columns + right + 0.5, rows + down + 0.5], axis=1)
    half = _CELL / 2 * np.exp(np.stack([width, height], axis=1).clip(max=math.log(_TILE)))
    return np.hstack([centre - half, centre + half, score[:, np.newaxis]])


def _distinct(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boxes, [N, 5], without those of a face that a surer box shows; surest first."""
    # Of a tile or a picture 4096 at most, so that a hostile one costs no more.
    remaining, distinct = boxes[np.argsort(-boxes[:, 4], kind="stable")[:4096]], []
    while len(remaining):
        best = remaining[0]
        distinct.append(best)
        joint = _area(
            np.maximum(best[:2], remaining[:, :2]), np.minimum(best[2:4], remaining[:, 2:4])
        )
        areas = _area(remaining[:, :2], remaining[:, 2:4])
        union = _area(best[:2], best[2:4]) + areas - joint
        is_other = (joint < 0.3 * union) & (joint <= 0.8 * areas)
        is_other[0] = False
        remaining = remaining[is_other]
    return np.array(distinct).reshape(-1, 5)


def _area(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.prod((high - low).clip(min=0), axis=-1))
