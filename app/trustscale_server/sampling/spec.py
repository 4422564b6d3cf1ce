"""What a calibration is valid for: everything that changes Ŷ, σ or D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.stretch import Stretch
from trustscale_server.kinds.features import RULES, UPLOAD, InputFeatures, classify
from trustscale_server.platform.errors import BadRequest, CalibrationMismatch, UpscalerUnavailable
from trustscale_server.sampling.prediction import PredictionRule
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.fits import shipped_for
from trustscale_server.sampling.sigma.moments import MAX_SAMPLES
from trustscale_server.things import reading
from trustscale_server.upscalers.base import Picture, Upscaler, settings_of
from trustscale_server.upscalers.resilience.upscaler import ResilientUpscaler

TRUST_LAYER_VERSION = 4
"""Raised whenever the same samples would give another σ, D or Ŷ."""

_COLOR_SPACE: Literal["normalised_lab_d65"] = "normalised_lab_d65"


class MeasurementSpec(BaseModel):
    """Everything that a calibration is valid for: all that changes Ŷ, σ or D.

    input_rule: of the classes of uploads; None: no classes.
    stretch: how values become X of 16 bits; None: X has 8 bits.
    align: whether samples get the colours of X (`align.py`); those of calibrations that were made
    before there was such a thing do not.
    picture: what answers: Ŷ of the samples, or what is made of it (`shown.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    scale: PositiveInt
    samples: int = Field(ge=1, le=MAX_SAMPLES)
    prediction: PredictionRule = "first"
    indecision: IndecisionSettings = IndecisionSettings()
    fidelity: FidelitySettings = FidelitySettings()
    color_space: Literal["normalised_lab_d65"] = _COLOR_SPACE
    trust_layer: int = TRUST_LAYER_VERSION
    input_rule: str | None = None
    stretch: Stretch | None = Field(None, exclude_if=lambda stretch: stretch is None)
    align: bool = Field(False, exclude_if=lambda align: not align)
    picture: Picture = Field("model", exclude_if=lambda picture: picture == "model")

    @model_validator(mode="after")
    def _has_classes(self) -> MeasurementSpec:
        if self.indecision.fits and self.input_rule is None:
            raise ValueError("fits of some classes need an input rule")
        return self

    @model_validator(mode="after")
    def _has_words(self) -> MeasurementSpec:
        if self.indecision.spec.is_for_text and self.fidelity.reader is None:
            raise ValueError("the estimator reading belongs to the metric text")
        return self

    @model_validator(mode="after")
    def _has_enough_samples(self) -> MeasurementSpec:
        least = self.indecision.least_samples
        if self.samples < least:
            raise ValueError(
                f"the estimator {self.indecision.estimator} needs at least {least} samples"
            )
        return self

    def sigma_of(self, features: InputFeatures | None) -> IndecisionSettings:
        """Return how σ of an upload with these features is made.

        Where it is nearly soft, by the fit of all classes: it may be soft, and a fit to sharp
        uploads alone can be wrong by far there.

        Raises:
            ValueError: its class decides, and the features are not known.
        """
        if not self.indecision.fits:
            return self.indecision
        if features is None or self.input_rule is None:
            raise ValueError("σ depends on the class of the upload, and its features are not known")
        name = None if features.is_nearly_soft else classify(self.input_rule, features)
        return self.indecision.of_class(name)


def pipeline_differences(
    calibrated: MeasurementSpec, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return how the live pipeline differs: `{field, calibrated, live}` each.

    With the calibration's digests of the upscaler's settings, a difference of fingerprints has a
    member `settings` that names those that changed.
    """
    live: dict[str, Any] = {
        "fingerprint": upscaler.fingerprint,
        "scale": upscaler.scale,
        "color_space": _COLOR_SPACE,
        "trust_layer": TRUST_LAYER_VERSION,
        "picture": upscaler.capabilities.picture,
    }
    differing = [
        {"field": name, "calibrated": getattr(calibrated, name), "live": value}
        for name, value in live.items()
        if getattr(calibrated, name) != value
    ]
    if differing and differing[0]["field"] == "fingerprint" and settings:
        now = settings_of(upscaler)
        names = {name for name in {*settings, *now} if settings.get(name) != now.get(name)}
        differing[0]["settings"] = sorted(names)
    if calibrated.input_rule not in {None, *RULES}:
        differing.append(
            {"field": "input_rule", "calibrated": calibrated.input_rule, "live": list(RULES)}
        )
    if calibrated.align and not upscaler.capabilities.align_colours:
        differing.append({"field": "align", "calibrated": True, "live": False})
    most = upscaler.capabilities.max_samples
    if most is not None and calibrated.samples > most:
        differing.append({"field": "samples", "calibrated": calibrated.samples, "live": most})
    return differing


def raise_if_unmeasurable(settings: FidelitySettings) -> None:
    """Raise BadRequest, naming the missing packages, unless errors can be measured here."""
    if lacking := reading.missing(settings.reader):
        raise BadRequest(f"The metric {settings.metric!r} needs {lacking}.")


def raise_if_pipeline_differs(
    calibrated: MeasurementSpec, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> None:
    """Raise CalibrationMismatch, with all differences, unless the pipeline is the calibrated."""
    differing = pipeline_differences(calibrated, upscaler, settings)
    if differing:
        fields = ", ".join(", ".join(item.get("settings") or [item["field"]]) for item in differing)
        raise CalibrationMismatch(
            f"The active calibration of {upscaler.name!r} was made under another pipeline "
            f"({fields} differ), so its mask would have no foundation. Calibrate again, or "
            "restore the one that was calibrated.",
            differences=differing,
        )


async def identify(upscaler: Upscaler) -> None:
    """Ask an upscaler that was unavailable at the start for its identity.

    Raises:
        UpscalerUnavailable: it still is.
    """
    try:
        _ = upscaler.fingerprint
    except UpscalerUnavailable:
        await (upscaler.wake() if isinstance(upscaler, ResilientUpscaler) else upscaler.probe())


DEFAULT_SAMPLES = 1
"""M by default: more calls gain little (docs/mask-power.md)."""


def default_estimator(samples: int) -> str:
    """Return the plain σ for M samples; a single one has no variance."""
    return IndecisionSettings().estimator if samples > 1 else "departure"


def default_indecision(
    upscaler: Upscaler, samples: int, fidelity: FidelitySettings, input_rule: str | None = UPLOAD
) -> IndecisionSettings:
    """Return the σ of words, or that fitted to this very upscaler, or else the plain one."""
    if fidelity.spec.is_for_text:
        return IndecisionSettings("reading")
    exact = getattr(upscaler, "exact_fingerprint", upscaler.fingerprint)
    fits = shipped_for(exact, samples, fidelity.metric)
    if fits:
        of_classes = fits[1:] if input_rule is not None else ()
        return IndecisionSettings("fitted", fit=fits[0], fits=of_classes)
    return IndecisionSettings(default_estimator(samples))
