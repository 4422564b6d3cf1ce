"""The network in a community model file.

`weights.py` reads the weights, so no code in a file is executed; spandrel recognises the
architecture by their names.
"""

from pathlib import Path
from typing import Any

import spandrel

from trustscale_worker import weights
from trustscale_worker.errors import WeightsError


def read_network(path: Path) -> tuple[Any, str]:
    """Read a .pth or .safetensors file with spandrel; return it and its weights' digest.

    Raises:
        WeightsError: damaged, unsafe, or of no known architecture.
    """
    state = weights.read_state(path)
    # Spandrel builds as many layers as the highest number in a name says.
    if any(word.isdecimal() and len(word) > 4 for key in state for word in key.split(".")):
        raise WeightsError(f"{path}: names of weights count to 10,000 and more")
    digest = weights.digest(state)
    try:
        loader = spandrel.ModelLoader("cpu", registry=_architectures())
        return loader.load_from_state_dict(spandrel.canonicalize_state_dict(state)), digest
    except spandrel.UnsupportedModelError as error:
        raise WeightsError(f"{path}: of no architecture that spandrel knows") from error
    except Exception as error:  # architectures may raise anything on odd weights
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: cannot be loaded ({reason})") from error


def _architectures() -> spandrel.ArchRegistry:
    registry = spandrel.ArchRegistry()
    registry.add(*spandrel.MAIN_REGISTRY)
    try:
        from spandrel_extra_arches import EXTRA_REGISTRY  # noqa: PLC0415  an optional package
    except ImportError:
        return registry
    registry.add(*EXTRA_REGISTRY)
    return registry
