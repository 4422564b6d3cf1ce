"""What a person does in napari with the plugin, in its own environment; it prints the layers."""

import json
import sys

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer

viewer = napari.Viewer(show=False)
pixels = np.random.default_rng(0).random((24, 24))
pixels[:, :12] = 0.5  # nothing can be wrong there
viewer.add_image(pixels, name="sample", scale=(2, 3), translate=(10, 20))
_, widget = viewer.window.add_plugin_dock_widget("napari-trustscale", "Upscale with trust")
widget.url.value, widget.alpha.value = sys.argv[1], 0.12
loop = QEventLoop()
failed = []
worker = widget()
worker.errored.connect(failed.append)
worker.finished.connect(loop.quit)
QTimer.singleShot(60_000, loop.quit)
loop.exec()
loop.processEvents()
if failed:
    raise failed[0]
told = [
    {
        "name": layer.name,
        "shape": layer.data.shape,
        "scale": layer.scale.tolist(),
        "extent": layer.extent.world.tolist(),
        "mean": float(np.mean(layer.data)),
        "sentence": layer.metadata["trustscale"]["guarantee"]["plain"],
    }
    for layer in viewer.layers[1:]
]
sys.stdout.write(f"{json.dumps(told)}\n")
