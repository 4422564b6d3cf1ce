"""What an admin chooses when calibrating; every field has a sensible default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.calibration.guarantee import GuaranteeSettings
from app.calibration.record import Manifest
from app.conformal.fidelity import FidelitySettings
from app.conformal.folding import MAX_SAMPLES
from app.conformal.indecision import IndecisionSettings
from app.errors import BadRequest
from app.images.degrade import Degradation
from app.sampling.defaults import default_estimator, default_indecision, default_samples
from app.sampling.pipeline import Pipeline, Prediction
from app.upscalers.base import Upscaler


class CalibrationConfig(BaseModel):
    """Settings of one calibration, as the admin API and the CLI take them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, max_length=200)
    upscaler: str | None = None
    samples: int | None = Field(
        None, ge=1, le=MAX_SAMPLES, description="M; default: what suits the upscaler."
    )
    prediction: Prediction = "first"
    indecision: IndecisionSettings | None = Field(
        None, description="Default: what suits the upscaler and M."
    )
    fidelity: FidelitySettings = FidelitySettings()
    default_alpha: float = Field(0.1, gt=0, allow_inf_nan=False)
    guarantee: GuaranteeSettings = GuaranteeSettings()
    degradation: Degradation | None = None
    activate: bool = False
    seed: int = Field(0, ge=0, lt=2**63)
    on_bad_pair: Literal["fail", "skip"] = "fail"
    note: str | None = Field(None, max_length=2000, description="Where the images come from.")
    attributions: list[Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=list, max_length=10_000, description="Who is to be named for them."
    )

    @model_validator(mode="before")
    @classmethod
    def _estimator(cls, fields: Any) -> Any:
        """Who sets the window of σ but not what it smooths gets the plain σ for M."""
        match fields:
            case {"samples": int(samples), "indecision": dict(indecision)}:
                if "estimator" not in indecision:
                    named = {"estimator": default_estimator(samples), **indecision}
                    return {**fields, "indecision": named}
        return fields

    @classmethod
    def of(cls, manifest: Manifest, *, activate: bool) -> CalibrationConfig:
        """The settings that a calibration was made with."""
        pipeline = manifest.pipeline
        return cls(
            name=manifest.name,
            upscaler=manifest.upscaler,
            samples=pipeline.samples,
            prediction=pipeline.prediction,
            indecision=pipeline.indecision,
            fidelity=pipeline.fidelity,
            default_alpha=manifest.default_alpha,
            guarantee=manifest.guarantee,
            degradation=manifest.degradation,
            activate=activate,
            seed=manifest.seed,
            note=manifest.provenance.note,
            attributions=manifest.provenance.attributions,
        )

    def pipeline(self, upscaler: Upscaler) -> Pipeline:
        """The pipeline that this calibration would be valid for.

        Raises:
            BadRequest: the upscaler or the estimator cannot do with so many samples.
        """
        samples = self.samples or default_samples(upscaler)
        indecision = self.indecision or default_indecision(
            upscaler.fingerprint, samples, self.fidelity
        )
        if samples < indecision.least_samples:
            raise BadRequest(
                f"The estimator {indecision.estimator} needs at least {indecision.least_samples} "
                f"samples, and {samples} is asked for."
            )
        most = upscaler.capabilities.max_samples
        if most is not None and samples > most:
            raise BadRequest(f"The upscaler {upscaler.name!r} draws at most {most} samples.")
        return Pipeline(
            fingerprint=upscaler.fingerprint,
            scale=upscaler.scale,
            samples=samples,
            prediction=self.prediction,
            indecision=indecision,
            fidelity=self.fidelity,
        )
