"""The pipeline: what a calibration is valid for, and whether the live one is still that.

A mask is served only under the very pipeline that was calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from app.conformal.fidelity import FidelitySettings
from app.conformal.indecision import IndecisionSettings, shipped_for
from app.conformal.moments import MAX_SAMPLES
from app.errors import CalibrationMismatch, UpscalerUnavailable
from app.images.facts import RULES, UPLOAD, Facts, classify
from app.images.raster import Stretch
from app.upscalers.base import Upscaler, settings_of, witness_of
from app.upscalers.resilience import ResilientUpscaler

TRUST_LAYER_VERSION = 1
"""Raised whenever the same samples would give another σ, D or Ŷ."""

COLOR_SPACE: Literal["normalised_lab_d65"] = "normalised_lab_d65"

Prediction = Literal["first", "mean"]


class Pipeline(BaseModel):
    """Everything that a calibration is valid for: all that changes Ŷ, σ or D.

    input_rule: of the classes of uploads (`app/images/facts.py`); None: no classes.
    witness: its fingerprint, if samples are compared with one.
    stretch: how values become X of 16 bits (`app/images/raster.py`); None: X has 8 bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    scale: PositiveInt
    samples: int = Field(ge=1, le=MAX_SAMPLES)
    prediction: Prediction = "first"
    indecision: IndecisionSettings = IndecisionSettings()
    fidelity: FidelitySettings = FidelitySettings()
    color_space: Literal["normalised_lab_d65"] = COLOR_SPACE
    trust_layer: int = TRUST_LAYER_VERSION
    input_rule: str | None = None

    witness: str | None = Field(None, exclude_if=lambda witness: witness is None)
    stretch: Stretch | None = Field(None, exclude_if=lambda stretch: stretch is None)

    @model_validator(mode="after")
    def _has_a_witness(self) -> Pipeline:
        if self.indecision.needs_witness and self.witness is None:
            raise ValueError(f"the estimator {self.indecision.estimator} needs a witness")
        return self

    @model_validator(mode="after")
    def _has_classes(self) -> Pipeline:
        if self.indecision.fits and self.input_rule is None:
            raise ValueError("fits of some classes need an input rule")
        return self

    @model_validator(mode="after")
    def _has_enough_samples(self) -> Pipeline:
        least = self.indecision.least_samples
        if self.samples < least:
            raise ValueError(
                f"the estimator {self.indecision.estimator} needs at least {least} samples"
            )
        return self

    def sigma_of(self, facts: Facts | None) -> IndecisionSettings:
        """How σ of an upload with these facts is made.

        Where it is nearly soft, by the fit of all classes: it may be soft, and a fit to sharp
        uploads alone can be wrong by far there.

        Raises:
            ValueError: its class decides, and the facts are not known.
        """
        if not self.indecision.fits:
            return self.indecision
        if facts is None or self.input_rule is None:
            raise ValueError("σ depends on the class of the upload, and its facts are not known")
        name = None if facts.is_nearly_soft else classify(self.input_rule, facts)
        return self.indecision.of_class(name)


def differences(
    calibrated: Pipeline, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """How the live pipeline differs from the calibrated one: `{field, calibrated, live}` each.

    With the calibration's digests of the upscaler's settings, a difference of fingerprints has a
    member `settings` that names those that changed.
    """
    live: dict[str, Any] = {
        "fingerprint": upscaler.fingerprint,
        "scale": upscaler.scale,
        "color_space": COLOR_SPACE,
        "trust_layer": TRUST_LAYER_VERSION,
    }
    found = [
        {"field": name, "calibrated": getattr(calibrated, name), "live": value}
        for name, value in live.items()
        if getattr(calibrated, name) != value
    ]
    if found and found[0]["field"] == "fingerprint" and settings:
        now = settings_of(upscaler)
        names = {name for name in {*settings, *now} if settings.get(name) != now.get(name)}
        found[0]["settings"] = sorted(names)
    if calibrated.input_rule not in {None, *RULES}:
        found.append(
            {"field": "input_rule", "calibrated": calibrated.input_rule, "live": list(RULES)}
        )
    if calibrated.witness is not None:
        witness = witness_of(upscaler)
        seen = None if witness is None else witness.fingerprint(calibrated.scale)
        if seen != calibrated.witness:
            found.append({"field": "witness", "calibrated": calibrated.witness, "live": seen})
    most = upscaler.capabilities.max_samples
    if most is not None and calibrated.samples > most:
        found.append({"field": "samples", "calibrated": calibrated.samples, "live": most})
    return found


def guard(
    calibrated: Pipeline, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> None:
    """Raise CalibrationMismatch, with all differences, unless the pipeline is the calibrated."""
    found = differences(calibrated, upscaler, settings)
    if found:
        fields = ", ".join(", ".join(item.get("settings") or [item["field"]]) for item in found)
        raise CalibrationMismatch(
            f"The active calibration of {upscaler.name!r} was made under another pipeline "
            f"({fields} differ), so its mask would have no foundation. Calibrate again, or "
            "restore the upscaler that was calibrated.",
            differences=found,
        )


async def identify(upscaler: Upscaler) -> None:
    """Have an upscaler that was unavailable at the start identify itself.

    Raises:
        UpscalerUnavailable: it still is.
    """
    try:
        _ = upscaler.fingerprint
    except UpscalerUnavailable:
        await (upscaler.wake() if isinstance(upscaler, ResilientUpscaler) else upscaler.check())


DEFAULT_SAMPLES = 1
"""M by default. One sample with the witness trusts as much as two, and more than four without it
(docs/mask-power.md)."""


def default_estimator(samples: int, *, witness: bool = False) -> str:
    """The plain σ for M samples: a single one has no variance."""
    if samples > 1:
        return IndecisionSettings().estimator
    return "witness" if witness else "residual"


def default_indecision(
    upscaler: Upscaler, samples: int, fidelity: FidelitySettings, input_rule: str | None = UPLOAD
) -> IndecisionSettings:
    """The σ that was fitted to this very upscaler, or else the plain one."""
    witness = witness_of(upscaler) is not None
    exact = getattr(upscaler, "exact_fingerprint", upscaler.fingerprint)
    fits = shipped_for(exact, samples, fidelity.title)
    if fits and (witness or not fits[0].needs_witness):
        of_classes = fits[1:] if input_rule is not None else ()
        return IndecisionSettings("fitted", fit=fits[0], fits=of_classes)
    return IndecisionSettings(default_estimator(samples, witness=witness))
