"""What the monitor and the known truths say about a calibration, for people.

Feedback says how wrong a served mask was, once the truth is known. D is measured as in calibration,
between the truth and the served image; the loss is the mean over the spots of the picture of its
maximum over the served mask in each. Besides:

- Where nothing was promised, or the picture was reduced after its mask was made, the loss is not
counted.
- The truth about one image counts once.
- Counted losses test the promise (`app/conformal/evidence.py`); they never enter the calibration.

The findings of the monitor are a document, with its alarms.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.calibration.insight import COMMON_ALPHAS
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal import evidence, fidelity, reader, words
from trustscale_server.conformal.fidelity import FidelitySettings, to_8_bit
from trustscale_server.conformal.reader import box_of
from trustscale_server.errors import BadImage, BadRequest
from trustscale_server.images.decode import Limits, decode
from trustscale_server.images.raster import read_values, stored_pixels, stretched
from trustscale_server.images.sandbox import File, decoding
from trustscale_server.monitoring.monitor import MonitorState, StateChange, fold_label, time_of
from trustscale_server.sampling.pipeline import check_measurable
from trustscale_server.serving.answer import Result, read_codes
from trustscale_server.stores.base import Label
from trustscale_server.upscalers.base import RGB, Upscaler

# --- Feedback: how wrong a served mask was, once the truth is known.


class LossAt(BaseModel):
    """The loss of the mask of an α on the same image."""

    alpha: float
    loss: float


class Measured(BaseModel):
    """What the truth says about one result. `tolerance` is that of its mask."""

    result: str
    upscaler: str
    calibration: str
    metric: str
    bound: float
    alpha: float
    loss: float = Field(
        description="What the promise counts: the mean over the spots of the output of the largest "
        "error in the served mask; of the kind probability the share of those that exceed the "
        "tolerance."
    )
    loss_anywhere: float = Field(description="The largest error in the served mask.")
    within: bool = Field(description="Whether loss ≤ alpha; the promise is about the average.")
    losses: list[LossAt]
    tolerance: float


class TruthReport(Measured):
    """What the truth says about one result, and about all labelled ones so far."""

    counted: bool = Field(description="Whether this truth counts in the fields below.")
    n_labels: int
    mean_loss: float | None
    e_value: float
    e_value_alarm_at: float
    alarm: bool
    statement: str


@dataclass(frozen=True, slots=True)
class Served:
    """The stored parts of a result: its document, image.png, mask.png and trust.png.

    input_digest: of its upload.
    """

    result: Result
    image: bytes
    mask: bytes
    trust: bytes
    input_digest: int


@dataclass(frozen=True, slots=True)
class ScoredMask:
    """The losses of one served mask.

    digest: of the truth's pixels.
    image_digest: the same for every result of one image; below 2^64.
    counts: whether something was promised of this output.
    """

    digest: str
    image_digest: int
    counts: bool
    measured: Measured


MAX_TRUTH_BYTES = 64 * 1024 * 1024
"""Of an upload: 16 megapixels as PNG, even of noise."""


_BYTES = 20  # per pixel: both images, one being decoded, the mask and σ


def footprint_of(result: Result, calibration: Calibration) -> int:
    """Return how many bytes scoring a result against its truth holds at most."""
    per_pixel = _BYTES + calibration.pipeline.fidelity.row.bytes_per_pixel
    return result.height * result.width * per_pixel


async def read_truth(
    calibration: Calibration, served: Served, *, image: File | None, label: File | None
) -> RGB:
    """Return what is known of a result, as pixels.

    `image` is Y, for every metric but the semantic one of people; `label`, for that one, is not
    black where the meaning differs. Raises BadInput for a missing, superfluous or unusable file, or
    a missing extra.
    """
    check_measurable(calibration.pipeline.fidelity)
    wants_label = calibration.pipeline.fidelity.row.needs_label
    data = label if wants_label else image
    if data is None or (image is not None and label is not None):
        raise BadRequest(
            "The metric of this calibration is drawn by people: send `label`, a PNG that is not "
            "black where the meaning differs."
            if wants_label
            else "Send `image`, the true image of the output's size, and nothing else."
        )
    # A truth has the size of the output, and may be transparent where that is.
    with Image.open(io.BytesIO(served.image)) as picture:
        with_alpha = picture.has_transparency_data
    most = served.result.width * served.result.height
    limits = Limits(max_bytes=MAX_TRUTH_BYTES, max_pixels=most)
    raster = served.result.raster
    if raster is not None and raster.stretch is not None and not wants_label:
        return stretched((await decoding(read_values, data, limits)).values, raster)
    return (await decoding(decode, data, limits, with_alpha=with_alpha)).rgb


def score_mask(calibration: Calibration, served: Served, pixels: RGB) -> ScoredMask:
    """Measure the losses of a served mask against the pixels of the truth.

    Raises:
        BadImage: they are of another size.
    """
    result, settings = served.result, calibration.pipeline.fidelity
    wants_label = settings.row.needs_label
    prediction = stored_pixels(served.image)  # what is not opaque is in no mask
    mask = np.asarray(Image.open(io.BytesIO(served.mask)), bool)
    if pixels.shape != prediction.shape:
        raise BadImage(
            f"The truth is {pixels.shape[1]}×{pixels.shape[0]}, the output is "
            f"{prediction.shape[1]}×{prediction.shape[0]}."
        )
    drawn = np.asarray(pixels.any(axis=2)) if wants_label else None
    curve, codes = calibration.curve, read_codes(served.trust)
    loss_of = calibration.guarantee.loss_of
    errors_in = _errors(pixels, prediction, settings, drawn)

    def loss_in(mask: NDArray[np.bool_]) -> float:
        """The mean of the losses of a mask."""
        return float(np.mean([loss_of(error) for error in errors_in(mask)]))

    truth: NDArray[Any] = pixels if drawn is None else drawn
    digest = hashlib.sha256(repr(truth.shape).encode() + truth.tobytes()).hexdigest()
    loss = loss_in(mask)
    measured = Measured(
        result=result.id,
        upscaler=result.upscaler,
        calibration=result.calibration,
        metric=settings.metric,
        bound=calibration.bound,
        alpha=result.alpha,
        loss=loss,
        loss_anywhere=loss_of(max(errors_in(mask))),
        within=loss <= result.alpha,
        losses=[
            LossAt(alpha=alpha, loss=loss_in(curve.mask_of_code(codes, alpha)))
            for alpha in COMMON_ALPHAS
        ],
        tolerance=evidence.tolerance(calibration.losses_of_scenes(float(result.threshold))),
    )
    # A truth identifies the image; a label does not, many are all black.
    image_digest = served.input_digest if wants_label else int(digest[:16], 16)
    counts = result.guarantee.promised and result.reduced_from is None
    return ScoredMask(digest, image_digest, counts, measured)


def counting(scored: ScoredMask, at: float) -> Callable[[MonitorState], StateChange[TruthReport]]:
    """Return what a score changes: the monitor's state, the answer and the label."""
    measured = scored.measured

    def count(state: MonitorState) -> StateChange[TruthReport]:
        uncounted = None
        if not scored.counts:
            uncounted = "nothing was promised of this output"
        elif np.uint64(scored.image_digest) in state.labelled:
            uncounted = "the truth about this image is counted already, with another result"
        else:
            state = fold_label(
                state,
                measured.loss,
                measured.alpha,
                measured.bound,
                digest=scored.image_digest,
                slack=measured.tolerance,
                at=at,
            )
        truth = _truth_of(measured, state, uncounted)
        record = truth.model_dump_json().encode()
        return StateChange(state, truth, Label(measured.result, scored.digest, record))

    return count


def finite_exp(log_value: float) -> float:
    """Return exp, cut at 1e300, since JSON has no infinity."""
    return math.exp(min(log_value, 300 * math.log(10)))


def _truth_of(measured: Measured, state: MonitorState, uncounted: str | None) -> TruthReport:
    known = state.labels
    verb = "is within" if measured.within else "exceeds"
    statement = (
        f"The loss in the mask was {measured.loss:.3g}; that {verb} α = {measured.alpha:g}. The "
        "promise is about the average over images, which one image neither proves nor refutes."
    )
    if uncounted is not None:
        statement += f" It is not counted: {uncounted}."
    if known.alarms:
        statement += (
            " The labels so far average above α. If they are a random sample of the requests, "
            "calibrate again."
        )
    return TruthReport(
        **measured.model_dump(),
        counted=uncounted is None,
        n_labels=known.n,
        mean_loss=known.mean_loss,
        e_value=finite_exp(known.log_e_value),
        e_value_alarm_at=1 / evidence.LABEL_DELTA,
        alarm=known.alarms,
        statement=statement,
    )


def _errors(
    truth: RGB, prediction: RGB, settings: FidelitySettings, label: NDArray[np.bool_] | None
) -> Callable[[NDArray[np.bool_]], list[float]]:
    """Of a mask, the error of each part that loses: the largest one, or the share of words."""
    if settings.row.reads:
        lines = reader.read_lines(to_8_bit(prediction))
        wrong = reader.read_otherwise(lines, to_8_bit(truth))
        boxes = [box_of(word.corners, prediction.shape) for line in lines for word in line.words]
        return lambda mask: [
            words.share_wrong([mask[place][inside].all() for place, inside in boxes], wrong)
        ]
    compared = prediction if label is not None else truth
    error = fidelity.error(compared, prediction, settings, label=label)
    windows = settings.windows(*error.shape)
    return lambda mask: [_worst(error[window], mask[window]) for window in windows]


def _worst(error: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The largest error in the mask; 0 where it is empty."""
    return float(error.max(where=mask, initial=0.0))


# --- The findings of the monitor as a document, and its alarms.

AlarmKind = Literal["inputs", "feedback", "canary", "mismatch", "no-calibration"]


class Alarm(BaseModel):
    """What needs an operator; `page` needs one at once: nobody is served, or masks are in doubt."""

    kind: AlarmKind
    severity: Literal["page", "ticket"]
    since: datetime | None = None
    message: str


class CalibrationFacts(BaseModel):
    """The calibration of the report."""

    id: str
    name: str | None
    n: int
    default_alpha: float

    @classmethod
    def of(cls, calibration: Calibration) -> CalibrationFacts:
        manifest = calibration.manifest
        return cls(
            id=calibration.id,
            name=manifest.name,
            n=calibration.n,
            default_alpha=manifest.default_alpha,
        )


class Requests(BaseModel):
    """Answered requests; repeated inputs are not counted in what follows."""

    model_config = ConfigDict(from_attributes=True)

    seen: int = 0
    counted: int = 0


class InputFacts(BaseModel):
    """Evidence that the inputs differ from the calibration images, in the present run.

    `martingale` is cut at 1e300. `shift_sd`: how much larger the mean log σ of the requests is than
    that of the calibration images, in standard deviations of the latter.
    """

    martingale: float
    martingale_alarm_at: float = 1 / evidence.DELTA
    shift_sd: float | None
    out_of_distribution: float
    trusted_fraction: float

    @classmethod
    def of(cls, state: MonitorState) -> InputFacts | None:
        if not state.counted:
            return None
        known = state.pictures
        return cls(
            martingale=finite_exp(known.log_capital),
            shift_sd=known.shift / known.n if known.n else None,
            out_of_distribution=state.out_of_distribution / state.counted,
            trusted_fraction=state.trusted_sum / state.counted,
        )


class FeedbackFacts(BaseModel):
    """What the labels say; `alpha` is the mean of the labelled masks."""

    n: int
    within: int
    mean_loss: float
    alpha: float
    e_value: float
    e_value_alarm_at: float = 1 / evidence.LABEL_DELTA

    @classmethod
    def of(cls, state: MonitorState) -> FeedbackFacts | None:
        known = state.labels
        if known.mean_loss is None:
            return None
        return cls(
            n=known.n,
            within=known.within,
            mean_loss=known.mean_loss,
            alpha=known.total_alpha / known.n,
            e_value=finite_exp(known.log_e_value),
        )


class UpscalerReport(BaseModel):
    """What is known of one upscaler under one of its active calibrations."""

    upscaler: str
    kind: str
    calibration: CalibrationFacts | None = None
    since: datetime | None = None
    updated_at: datetime | None = None
    requests: Requests = Requests()
    inputs: InputFacts | None = None
    feedback: FeedbackFacts | None = None
    canary: dict[str, Any] | None = None
    alarms: list[Alarm] = []


class MonitorReport(BaseModel):
    """All upscalers, at one time."""

    at: datetime
    upscalers: list[UpscalerReport]


def report_of(
    upscaler: Upscaler,
    calibration: Calibration,
    state: MonitorState,
    *,
    canary: dict[str, Any] | None,
    differences: Sequence[dict[str, Any]],
) -> UpscalerReport:
    """Return the entry of an upscaler with an active calibration."""
    return UpscalerReport(
        upscaler=upscaler.name,
        kind=upscaler.kind,
        calibration=CalibrationFacts.of(calibration),
        since=time_of(state.since) if state.since else None,
        updated_at=time_of(state.updated) if state.updated else None,
        requests=Requests.model_validate(state),
        inputs=InputFacts.of(state),
        feedback=FeedbackFacts.of(state),
        canary=canary,
        alarms=[*model_alarms(upscaler.name, differences, canary), *state_alarms(state)],
    )


def uncalibrated(upscaler: Upscaler) -> UpscalerReport:
    """Return the entry of an upscaler without an active calibration."""
    alarm = Alarm(
        kind="no-calibration",
        severity="ticket",
        message=f"{upscaler.name!r} has no active calibration, so it serves no masks.",
    )
    return UpscalerReport(upscaler=upscaler.name, kind=upscaler.kind, alarms=[alarm])


def state_alarms(state: MonitorState) -> list[Alarm]:
    """Return the alarms of requests and labels."""
    alarms = []
    if state.inputs_alarm_since is not None:
        shift = state.pictures.shift / max(1, state.pictures.n)
        how = f" (on average {shift:+.2g} standard deviations of them)" if shift else ""
        alarms.append(
            Alarm(
                kind="inputs",
                severity="ticket",
                since=time_of(state.inputs_alarm_since),
                message=f"The inputs differ from the calibration images: the samples disagree "
                f"more or less about them{how}. This does not say that masks are wrong; it says "
                "that the promise was not made about such images. Look at who sends what, and "
                "calibrate with images like theirs.",
            )
        )
    known = state.labels
    if state.labels_alarm_since is not None and known.mean_loss is not None:
        alarms.append(
            Alarm(
                kind="feedback",
                severity="page",
                since=time_of(state.labels_alarm_since),
                message=f"The losses of {known.n} labelled results average {known.mean_loss:.3g}, "
                f"above α = {known.total_alpha / known.n:.3g} by more than chance and the draw of "
                "the calibration explain. If the labels are a random sample of the requests, "
                "calibrate again.",
            )
        )
    return alarms


def model_alarms(
    upscaler: str, differences: Sequence[dict[str, Any]], canary: dict[str, Any] | None
) -> list[Alarm]:
    """Return the alarms of a comparison of pipelines, and of the canaries."""
    alarms = []
    if differences:
        fields = ", ".join(str(item["field"]) for item in differences)
        message = (
            f"{upscaler!r} is not the upscaler that was calibrated ({fields} differ): not served."
        )
        alarms.append(Alarm(kind="mismatch", severity="page", message=message))
    if canary and canary.get("alarm"):
        message = f"The model behind {upscaler!r} seems to have changed since it was calibrated."
        alarms.append(Alarm(kind="canary", severity="page", message=message))
    return alarms
