"""The face detector on this machine, loaded for its first picture and shared by all requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trustscale_server.platform.cores import usable_cores
from trustscale_server.things.faces import Face, Network, find_faces, network_file, zoom_for
from trustscale_server.upscalers.embedded.runtime import (
    CPU,
    OPENVINO,
    PrecisionSetting,
    load_session,
    runtimes,
)


@dataclass(frozen=True, slots=True)
class FaceFinder:
    """Finds the faces of uploads, in the precision of embedded models."""

    precision: PrecisionSetting = "auto"

    def __call__(self, picture: NDArray[np.uint8], scale: int) -> list[Face]:
        """Return the faces of an upload, uint8 [H, W, 3], in its pixels; scale: of the output."""
        height, width, _ = picture.shape
        return find_faces(picture, zoom_for(height, width, scale), _network(self.precision))


@cache
def _network(precision: PrecisionSetting) -> Network:
    """On the processor, which it takes little of: no accelerator runs its small tiles faster."""
    return load_session(
        network_file(),
        name="the face detector",
        threads=usable_cores(),
        precision=precision,
        among=[each for each in runtimes() if each in {OPENVINO, CPU}],
    ).run
