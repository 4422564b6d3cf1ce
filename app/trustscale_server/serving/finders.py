"""The detectors of faces and of lines of text on this machine.

They are loaded for their first picture and shared by all requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trustscale_server.platform.cores import usable_cores
from trustscale_server.things import faces, lines
from trustscale_server.upscalers.embedded.runtime import (
    CPU,
    OPENVINO,
    InferenceSession,
    PrecisionSetting,
    load_session,
    runtimes,
)

_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class FaceFinder:
    """Finds the faces of uploads, in the precision of embedded models."""

    precision: PrecisionSetting = "auto"

    def __call__(self, picture: NDArray[np.uint8], scale: int) -> list[faces.Face]:
        """Return the faces of an upload, uint8 [H, W, 3], in its pixels; scale: of the output."""
        height, width, _ = picture.shape
        zoom = faces.zoom_for(height, width, scale)
        network = _loaded(faces.face_network_file, "the face detector", self.precision)
        return faces.find_faces(picture, zoom, network.run)


@dataclass(frozen=True, slots=True)
class LineFinder:
    """Finds lines of text, in the precision of embedded models; needs the extra `text`."""

    precision: PrecisionSetting = "auto"

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[lines.Corners]]:
        """Return the lines in each of some pictures of one place, as `lines.find_lines`."""
        network = _loaded(lines.line_network_file, "the detector of text", self.precision)
        return lines.find_lines(pictures, network.run)


def _loaded(
    weights: Callable[[], bytes], name: str, precision: PrecisionSetting
) -> InferenceSession:
    """Return a network, loaded once, however many requests come first together."""
    with _LOADING:
        return _session(weights, name, precision)


@cache
def _session(
    weights: Callable[[], bytes], name: str, precision: PrecisionSetting
) -> InferenceSession:
    """The network, on the processor: no accelerator runs its small tiles faster."""
    return load_session(
        weights(),
        name=name,
        threads=usable_cores(),
        precision=precision,
        among=[each for each in runtimes() if each in {OPENVINO, CPU}],
    )
