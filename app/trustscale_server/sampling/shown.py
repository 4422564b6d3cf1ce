"""What answers: Ŷ as the model made it, or what is made of it without asking the model again.

The *safe copy* E + w·a leaves out detail as far as it is doubtful, so it is nearer to the truth
than Ŷ and E (`sigma/added_score.py`). The *plain enlargement* is E itself: where a model errs more
than it helps, on pages of text for one, it is the nearest. Either is the prediction of a pipeline
of its own, whose errors are calibrated; σ is made of the model's samples, since what the model
would add says where detail is missing.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from trustscale_server.conformal.added import VISIBLE
from trustscale_server.platform.ordered_map import ordered_map
from trustscale_server.sampling.enlarged import Enlarged
from trustscale_server.sampling.sigma.added_score import UNCHANGED, Added, safe_copy, score_added
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import RGB, Picture, Source


def answered(source: Source, made: RGB, pipeline: MeasurementSpec) -> tuple[RGB, Added | None]:
    """Return the picture that answers, and what it adds to X, as far as anybody looks.

    made: Ŷ of the samples. Nobody looks at restorations, data, words, and where X is unknown.

    Raises:
        ValueError: then there is no safe copy.
    """
    is_picture = (
        pipeline.scale > 1 and pipeline.stretch is None and not pipeline.fidelity.spec.is_for_text
    )
    added = _added(source, made) if is_picture and source.features is not None else None
    if pipeline.picture == "model":
        return made, added
    if pipeline.picture == "plain":
        return _plain(source, made), None if added is None else _nothing(added)
    if added is None:
        raise ValueError("there is a safe copy of pictures only")
    return safe_copy(source.rgb, made, added.weights), _softened(added)


def shown_as(source: Source, made: RGB, picture: Picture) -> RGB:
    """Return the picture that answers, of an X whose features are known."""
    if picture == "model":
        return made
    if picture == "plain":
        return _plain(source, made)
    return safe_copy(source.rgb, made, _added(source, made).weights)


def _added(source: Source, made: RGB) -> Added:
    if source.features is None:
        raise ValueError("what was added depends on the upload, and its features are not known")
    with ordered_map("trustscale-added") as map_fn:
        return score_added(source.rgb, made, source.features, map_fn)


def _plain(source: Source, made: RGB) -> RGB:
    enlarged = Enlarged(source.rgb, len(made) // source.height)
    return np.ascontiguousarray(enlarged[: len(made)])


def _softened(added: Added) -> Added:
    """What the safe copy adds: w·a, all of which is kept."""
    weights = added.weights.astype(np.float32) * np.float32(1 / 255)
    energy = added.energy * weights**2
    visible = scipy.ndimage.gaussian_filter(energy, 1.0, mode="reflect") >= VISIBLE**2
    codes = np.where(visible, added.codes, np.uint8(UNCHANGED))
    return Added(codes, energy, _everything(added))


def _nothing(added: Added) -> Added:
    codes = np.full_like(added.codes, UNCHANGED)
    return Added(codes, np.zeros_like(added.energy), _everything(added))


def _everything(added: Added) -> NDArray[np.uint8]:
    """Weights under which a picture is its own safe copy."""
    return np.full_like(added.weights, 255)
