"""The truth about a result becomes known: how wrong was the mask that was served?

D is measured as in calibration, between the truth and the image that was served, and the loss is
its maximum over the mask that was served. Four things differ from looking at one image:

- Where the promise is about any one window of the calibrated size (`per_window`), so is the loss
  that counts: a window as large as a calibration image. Window and size follow from the result's
  id, which nobody chose by looking.
- Where it is not known whether the promise applies to an output of this size, the loss is told, and
  not counted.
- The truth about one image counts once, however often it was upscaled: other results of it are no
  further evidence.
- What is counted tests the promise (`app/conformal/feedback.py`). It is never added to the
  calibration.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from app.calibration.price import COMMON_ALPHAS
from app.calibration.record import Calibration
from app.conformal import Staircase, feedback, fidelity
from app.conformal.fidelity import needs_label
from app.errors import BadImage, BadRequest
from app.images.decode import Limits, decode
from app.monitor.state import MonitorState, fold_label
from app.monitor.watch import Change
from app.serving.answer import Result
from app.stores.monitor import Label


class Window(BaseModel):
    """A part of the output, in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """Its place in arrays [H, W]."""
        return np.s_[self.y : self.y + self.height, self.x : self.x + self.width]


class LossAt(BaseModel):
    """The loss that the mask of another α has on the same image."""

    alpha: float
    loss: float


class ConfidenceSequence(BaseModel):
    """An interval for the mean loss that holds at every number of labels at once."""

    level: float
    lower: float
    upper: float


class Truth(BaseModel):
    """What the truth says about one result, and about all labelled ones so far."""

    result: str
    upscaler: str
    calibration: str
    metric: str
    bound: float
    alpha: float
    loss: float = Field(description="Largest error in the served mask, inside `window` if any.")
    loss_anywhere: float = Field(description="The same over the whole output.")
    within: bool = Field(description="loss ≤ alpha; the promise is about the average.")
    window: Window | None
    counted: bool = Field(description="Whether it is counted below.")
    losses: list[LossAt]
    n_labels: int
    mean_loss: float | None
    tolerance: float
    e_value: float
    e_value_alarm_at: float
    alarm: bool
    confidence_sequence: ConfidenceSequence | None
    statement: str


@dataclass(frozen=True, slots=True)
class Served:
    """The stored parts of a result: its document, image.png, mask.png and σ (float32 [H, W]).

    input_digest: of the upload that it was made from.
    """

    result: Result
    image: bytes
    mask: bytes
    sigma: NDArray[np.float32]
    input_digest: int


@dataclass(frozen=True, slots=True)
class Score:
    """The losses of one served mask.

    digest: of the truth's pixels.
    image_digest: the same for every result of one image; below 2^64.
    """

    digest: str
    image_digest: int
    loss: float
    loss_anywhere: float
    window: Window | None
    counted: bool
    losses: tuple[tuple[float, float], ...]


MAX_TRUTH_BYTES = 64 * 1024 * 1024
"""Of an upload: 16 megapixels as PNG, even of noise."""


def score(
    calibration: Calibration, served: Served, *, image: bytes | None, label: bytes | None
) -> Score:
    """Measure the losses of a served mask.

    Args:
        calibration: that the mask was made with, or its part of one group.
        served: the stored result.
        image: Y as a file, for every metric but the semantic one of people.
        label: for that one, an image that is not black where the meaning differs.

    Raises:
        BadInput: the file is missing, superfluous, undecodable or of another size.
    """
    settings = calibration.pipeline.fidelity
    prediction = np.asarray(Image.open(io.BytesIO(served.image)))
    mask = np.asarray(Image.open(io.BytesIO(served.mask)), bool)
    wants_label = needs_label(settings)
    data = label if wants_label else image
    if data is None or (image is not None and label is not None):
        raise BadRequest(
            "The metric of this calibration is drawn by people: send `label`, a PNG that is not "
            "black where the meaning differs."
            if wants_label
            else "Send `image`, the true image of the output's size, and nothing else."
        )
    # A truth is as large as the output, and no larger.
    most = served.result.width * served.result.height
    pixels = decode(data, Limits(max_bytes=MAX_TRUTH_BYTES, max_pixels=most)).rgb
    if pixels.shape != prediction.shape:
        raise BadImage(
            f"The truth is {pixels.shape[1]}×{pixels.shape[0]}, the output is "
            f"{prediction.shape[1]}×{prediction.shape[0]}."
        )
    drawn = np.asarray(pixels.any(axis=2)) if wants_label else None
    error = fidelity.error(prediction if wants_label else pixels, prediction, settings, label=drawn)
    window = window_of(calibration, served.result)
    inside = window.inside if window else np.s_[:, :]
    staircase = Staircase.from_maps(served.sigma[inside], error[inside])
    told: NDArray[Any] = pixels if drawn is None else drawn
    digest = hashlib.sha256(repr(told.shape).encode() + told.tobytes()).hexdigest()
    return Score(
        digest=digest,
        # The truth tells the image; a label does not, many are all black.
        image_digest=served.input_digest if wants_label else int(digest[:16], 16),
        loss=_worst(error[inside], mask[inside]),
        loss_anywhere=_worst(error, mask),
        window=window,
        counted=served.result.guarantee.applicability != "unknown",
        losses=tuple(
            (alpha, staircase.loss_below(calibration.curve.threshold(alpha)))
            for alpha in COMMON_ALPHAS
        ),
    )


def counting(
    calibration: Calibration, result: Result, scored: Score, at: float
) -> Callable[[MonitorState], Change[Truth]]:
    """What the score makes of the monitor's state: the state after it, the answer, the label."""
    threshold = float(result.threshold)
    slack = feedback.tolerance(calibration.losses(threshold))

    def count(state: MonitorState) -> Change[Truth]:
        reason = _UNKNOWN_SIZE
        counted = scored.counted
        if counted and np.uint64(scored.image_digest) in state.labelled:
            reason, counted = _REPEATED, False
        if counted:
            state = fold_label(
                state,
                scored.loss,
                result.alpha,
                calibration.bound,
                digest=scored.image_digest,
                slack=slack,
                at=at,
            )
        told = _told(calibration, result, scored, state, slack, None if counted else reason)
        record = FeedbackPoint.of(state, told, at).model_dump_json()
        return Change(state, told, Label(result.id, scored.digest, record.encode()))

    return count


class FeedbackPoint(BaseModel):
    """A label as the history keeps it, with what was known after it."""

    at: float
    n: int
    mean_loss: float | None
    lower: float | None
    upper: float | None
    log10_e_value: float
    truth: Truth

    @classmethod
    def of(cls, state: MonitorState, told: Truth, at: float) -> FeedbackPoint:
        sequence = told.confidence_sequence
        return cls(
            at=at,
            n=state.feedback.n,
            mean_loss=told.mean_loss,
            lower=sequence.lower if sequence else None,
            upper=sequence.upper if sequence else None,
            log10_e_value=state.feedback.log_e_value / math.log(10),
            truth=told,
        )


def finite_exp(log_value: float) -> float:
    """exp, cut at 1e300: JSON has no infinity."""
    return math.exp(min(log_value, 300 * math.log(10)))


def confidence_sequence(state: MonitorState, bound: float) -> ConfidenceSequence | None:
    """The present interval; None without labels."""
    if not state.feedback.n:
        return None
    found = feedback.interval(state.feedback, bound)
    return ConfidenceSequence(level=1 - feedback.DELTA, lower=found.lower, upper=found.upper)


def _told(
    calibration: Calibration,
    result: Result,
    scored: Score,
    state: MonitorState,
    slack: float,
    uncounted: str | None,
) -> Truth:
    known = state.feedback
    return Truth(
        result=result.id,
        upscaler=result.upscaler,
        calibration=result.calibration,
        metric=calibration.pipeline.fidelity.metric,
        bound=calibration.bound,
        alpha=result.alpha,
        loss=scored.loss,
        loss_anywhere=scored.loss_anywhere,
        within=scored.loss <= result.alpha,
        window=scored.window,
        counted=uncounted is None,
        losses=[LossAt(alpha=alpha, loss=loss) for alpha, loss in scored.losses],
        n_labels=known.n,
        mean_loss=known.mean_loss if known.n else None,
        tolerance=slack,
        e_value=finite_exp(known.log_e_value),
        e_value_alarm_at=1 / feedback.DELTA,
        alarm=known.alarms(),
        confidence_sequence=confidence_sequence(state, calibration.bound),
        statement=_statement(result, scored, uncounted, alarm=known.alarms()),
    )


_UNKNOWN_SIZE = "whether the promise applies to an output of this size is not known"
_REPEATED = "the truth about this image is counted already, with another result"


def _statement(result: Result, scored: Score, uncounted: str | None, *, alarm: bool) -> str:
    where = "in one window of the calibrated size" if scored.window else "in the mask"
    verb = "is within" if scored.loss <= result.alpha else "exceeds"
    statement = (
        f"The largest error {where} was {scored.loss:.3g}; that {verb} α = {result.alpha:g}. The "
        "promise is about the average over images, which one image neither proves nor refutes."
    )
    if uncounted is not None:
        statement += f" It is not counted: {uncounted}."
    if alarm:
        statement += (
            " The labels so far say that the mean loss is above α. If they are a random sample of "
            "the requests, the calibration no longer fits them: calibrate again."
        )
    return statement


def _worst(error: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The largest error in the mask; 0 where it is empty."""
    return float(error.max(where=mask, initial=0.0))


def window_of(calibration: Calibration, result: Result) -> Window | None:
    """The window of a result for which the promise is one about windows; None: all of it."""
    if result.guarantee.applicability != "per_window":
        return None
    sizes = [
        (pair.width, pair.height)
        for pair in calibration.manifest.pairs
        if pair.width <= result.width and pair.height <= result.height
    ]
    draw = np.random.default_rng(list(hashlib.sha256(result.id.encode()).digest()))
    width, height = sizes[int(draw.integers(len(sizes)))]
    x, y = (int(draw.integers(room + 1)) for room in (result.width - width, result.height - height))
    return Window(x=x, y=y, width=width, height=height)
