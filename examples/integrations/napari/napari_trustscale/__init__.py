"""A napari plugin: enlarge a layer by a Trustscale service, and see where it can be trusted."""

from typing import Any

import numpy as np
from napari.layers import Image
from napari.qt.threading import FunctionWorker, thread_worker
from napari.types import LayerDataTuple
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QTimer

from trustscale import Result, Trustscale


def upscale(
    layer: Image, url: str = "http://127.0.0.1:8000", key: str = "", alpha: float = 0.1
) -> FunctionWorker[list[LayerDataTuple]]:
    """Enlarge a picture while the viewer stays usable; its layers appear when they are there.

    A grey picture is sent as it is shown: its contrast limits become black and white.

    Args:
        layer: a picture, not a stack.
        url: of the service.
        key: of a client, where the service wants one.
        alpha: the error that is tolerated inside the mask, decided on before looking.

    Raises:
        ValueError: the layer is a stack.
    """
    if layer.multiscale or layer.ndim != 2:
        raise ValueError(f"{layer.name} is a stack: duplicate one of its pictures into a layer.")
    pixels, place = shown(layer), {"name": layer.name, "scale": layer.scale}
    place["translate"] = layer.translate

    @thread_worker  # type: ignore[untyped-decorator]
    def ask() -> list[LayerDataTuple]:
        with Trustscale(url, key or None) as service:
            return layers_of(service.upscale(pixels, alpha=alpha), place, layer.rgb)

    worker: FunctionWorker[list[LayerDataTuple]] = ask()
    worker.returned.connect(tell)
    QTimer.singleShot(0, worker.start)  # once the viewer waits for what it returns
    return worker


def tell(layers: list[LayerDataTuple]) -> None:
    """Show the promise and its warnings."""
    document = layers[0][1]["metadata"]["trustscale"]
    show_info(document["guarantee"]["plain"])
    for warning in document["warnings"]:
        show_warning(warning)


def shown(layer: Image) -> np.ndarray:
    """The displayed pixels of a layer, uint8 [H, W, 3]."""
    pixels = np.asarray(layer.data)
    if layer.rgb and pixels.dtype == np.uint8:
        return pixels[..., :3]
    low, high = (0, 1) if layer.rgb else layer.contrast_limits
    scaled = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1)
    grey = np.rint(255 * scaled).astype(np.uint8)
    return grey[..., :3] if layer.rgb else np.repeat(grey[..., None], 3, axis=2)


def layers_of(result: Result, place: dict[str, Any], is_rgb: bool) -> list[LayerDataTuple]:
    """The layers of a result, aligned with the layer that was sent."""
    k = result.document["scale"]
    # The origin of a layer is the middle of its first pixel, and pixels are smaller now.
    where = {
        "scale": place["scale"] / k,
        "translate": place["translate"] + place["scale"] * (1 / k - 1) / 2,
        "metadata": {"trustscale": result.document},
    }
    bound, name = result.guarantee["bound"], place["name"]
    picture = np.asarray(result.image.convert("RGB" if is_rgb else "L"))
    guessed = {"name": f"{name}: not trusted", "opacity": 0.4}
    levels = {
        "name": f"{name}: trust level",
        "visible": False,
        "colormap": "magma",
        "contrast_limits": (0, bound),
    }
    return [
        (picture, {"name": f"{name}: enlarged", "rgb": is_rgb, **where}, "image"),
        ((~result.mask).astype(np.uint8), guessed | where, "labels"),
        (np.minimum(result.trust, bound), levels | where, "image"),
    ]
