"""The settings of a calibration, each with a sensible default."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trustscale_server.calibrating.unusable import OnBadPair
from trustscale_server.calibration.guarantee_kinds import AnyGuarantee, Expectation
from trustscale_server.calibration.guarantees import LEVELS, ROBUST
from trustscale_server.calibration.manifest import Manifest
from trustscale_server.calibration.review_settings import ReviewSettings
from trustscale_server.conformal.error_metrics import METRICS
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.stretch import Stretch
from trustscale_server.kinds.degradation import Degradation, MadeBy, Mixture
from trustscale_server.kinds.features import BANDS, RULES, UPLOAD
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.platform.errors import BadRequest, Conflict
from trustscale_server.sampling.align import aligns
from trustscale_server.sampling.prediction import PredictionRule
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.moments import MAX_SAMPLES
from trustscale_server.sampling.spec import (
    DEFAULT_SAMPLES,
    MeasurementSpec,
    default_estimator,
    default_indecision,
)
from trustscale_server.upscalers.base import Upscaler

_OF_MANIFEST: Final = ("name", "default_alpha", "guarantee", "review", "degradation", "seed")
"""Fields of the settings that stand in the manifest."""


class CalibrationConfig(BaseModel):
    """Settings of one calibration, as the admin API and the CLI take them.

    The bound of the fidelity error is by default the metric's `loss_clipped_at`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, max_length=200, description="Its name, for people.")
    upscaler: str | None = Field(
        None,
        description="The name of the upscaler; needed where auto chooses by the class of an "
        "upload.",
    )
    samples: int | None = Field(
        None, ge=1, le=MAX_SAMPLES, description="M, the number of calls per image; default: 1."
    )
    prediction: PredictionRule = Field("first", description="Which of the samples is the picture.")
    indecision: IndecisionSettings | None = Field(
        None, description="Default: what suits the upscaler and M."
    )
    fit_indecision: float | None = Field(
        None,
        ge=0,
        le=0.9,
        description="Fit σ on this share of the scenes, calibrate on the rest. Default: 0.3 with "
        "40 scenes or more where no fit is shipped; 0: never.",
    )
    fidelity: FidelitySettings = FidelitySettings()
    default_alpha: float = Field(LEVELS["balanced"], gt=0, allow_inf_nan=False)
    guarantee: AnyGuarantee = Expectation(robust=ROBUST)
    review: ReviewSettings = Field(
        ReviewSettings(), description="Which pictures may go out without a look."
    )
    degradation: MadeBy | None = Field(
        None, description="How X is made where only Y is sent; null: as uploads usually are."
    )
    input_rule: str | None = Field(
        UPLOAD, description="What sorts uploads into classes with curves of their own."
    )
    stretch: Stretch | None = Field(
        None,
        description="For data: the values of X, `LOW,HIGH` or `p1,p99`, that become the "
        "darkest and lightest of 16 bits, in X and Y. Errors are shares of it, "
        "unless a metric is named.",
    )
    activate: bool = False
    force: bool = Field(False, description="Activate it also if it would serve worse.")
    seed: int = Field(0, ge=0, lt=2**63, description="Of the samples and of how X is made.")
    on_bad_pair: OnBadPair = "fail"
    note: str | None = Field(
        None,
        max_length=2000,
        description="What the images show, what not, and where they come from; every answer "
        "repeats the first line.",
    )
    attributions: list[Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=list,
        max_length=10_000,
        description="Who is to be named as the author of the images.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, settings: Any) -> Any:
        """Fill in the defaults that depend on other settings."""
        if not isinstance(settings, dict):
            return settings
        filled = {"fidelity": {}, **settings}
        if settings.get("stretch"):
            filled.setdefault("input_rule", BANDS)
            if isinstance(filled["fidelity"], dict):
                filled["fidelity"] = {"metric": "intensity", **filled["fidelity"]}
                if filled["fidelity"]["metric"] == "intensity":
                    # Errors as shares of the stretch are smaller than those of colours.
                    filled.setdefault("default_alpha", LEVELS["strict"])
        match filled:
            case {"fidelity": dict(fidelity)} if fidelity.get("bound") is None:
                row = METRICS.get(str(fidelity.get("metric", FidelitySettings().metric)))
                filled["fidelity"] = {**fidelity, "bound": row and row.loss_clipped_at}
        match filled:
            case {"guarantee": dict(guarantee)}:
                filled["guarantee"] = {"robust": ROBUST, **guarantee}
        match filled:
            case {"samples": int(samples), "indecision": dict(indecision)}:
                # A window of σ without an estimator is for the plain σ of M.
                filled["indecision"] = {"estimator": default_estimator(samples), **indecision}
        return filled

    @field_validator("input_rule")
    @classmethod
    def _known_rule(cls, rule: str | None) -> str | None:
        if rule not in {None, *RULES}:
            raise ValueError(f"input_rule must be null or one of {RULES}")
        return rule

    @model_validator(mode="after")
    def _go_together(self) -> CalibrationConfig:
        if self.fit_indecision and self.indecision is not None:
            raise ValueError("fit_indecision makes σ itself: leave indecision out")
        if self.fit_indecision and self.fidelity.spec.needs_label:
            raise ValueError("σ cannot be fitted to errors that people mark")
        if self.indecision and self.indecision.fits and self.input_rule is None:
            raise ValueError("fits of some classes need an input_rule")
        sigma = self.indecision
        is_local = sigma is None or sigma.fit is not None or sigma.radius is not None
        if self.fidelity.unit == "spot" and not is_local:
            raise ValueError("this σ looks at the whole picture: choose fidelity.unit=picture")
        if (self.stretch is None) == (self.input_rule == BANDS) and self.input_rule is not None:
            raise ValueError(f"stretch goes with the input_rule {BANDS} or null, and only that")
        made_by = self.degradation
        is_of_data = made_by is None or (isinstance(made_by, Degradation) and made_by.is_of_data)
        if self.stretch is not None and not is_of_data:
            raise ValueError("with a stretch X is made by blur, reduction and noise only")
        self.guarantee.raise_if_unsuited(self.fidelity)
        return self

    def input_made_by(self, scale: int) -> Degradation | Mixture:
        """Return how X is made from Y: as chosen, else as uploads usually are.

        Where people label every prediction, or nothing is upscaled, X is made in one way.
        """
        if self.degradation is not None:
            return self.degradation
        varies = self.input_rule == UPLOAD and scale > 1 and not self.fidelity.spec.needs_label
        return TYPICAL_UPLOADS if varies else Degradation()

    def may_fit(self, indecision: IndecisionSettings) -> bool:
        """Return whether σ is fitted if there are enough scenes; otherwise it is this one."""
        if self.fit_indecision is not None:
            return self.fit_indecision > 0
        row = self.fidelity.spec
        is_plain = self.indecision is None and indecision.fit is None
        return is_plain and not row.needs_label and not row.is_for_text

    def manifest_fields(self) -> dict[str, Any]:
        """Return the fields that a calibration's manifest takes over."""
        return {name: getattr(self, name) for name in _OF_MANIFEST}

    @classmethod
    def from_manifest(
        cls, manifest: Manifest, *, activate: bool, force: bool = False
    ) -> CalibrationConfig:
        """Return the settings that a calibration was made with.

        Raises:
            Conflict: this release has no such settings, such as an older input_rule.
        """
        pipeline = manifest.pipeline
        try:
            return cls(
                **{name: getattr(manifest, name) for name in _OF_MANIFEST},
                samples=pipeline.samples,
                prediction=pipeline.prediction,
                indecision=pipeline.indecision,
                fidelity=pipeline.fidelity,
                input_rule=pipeline.input_rule,
                stretch=pipeline.stretch,
                upscaler=manifest.upscaler,
                activate=activate,
                force=force,
                note=manifest.provenance.note,
                attributions=manifest.provenance.attributions,
            )
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise Conflict(
                f"The calibration was made with settings that this release has not: {reason}. "
                "Calibrate again."
            ) from error

    def pipeline(self, upscaler: Upscaler) -> MeasurementSpec:
        """Return the pipeline that this calibration would be valid for.

        Raises:
            BadRequest: the upscaler or the estimator cannot do with this number of samples.
        """
        samples = self.samples or DEFAULT_SAMPLES
        indecision = self.indecision or default_indecision(
            upscaler, samples, self.fidelity, self.input_rule
        )
        if samples < indecision.least_samples:
            raise BadRequest(
                f"The estimator {indecision.estimator} needs at least {indecision.least_samples} "
                f"samples, and {samples} is asked for."
            )
        limit = upscaler.capabilities.max_samples
        if limit is not None and samples > limit:
            raise BadRequest(f"The upscaler {upscaler.name!r} draws at most {limit} samples.")
        picture = upscaler.capabilities.picture
        if picture == "safe" and self.stretch is not None:
            raise BadRequest(
                f"The upscaler {upscaler.name!r} makes safe copies, and there are none of data: "
                "leave stretch out, or name another upscaler."
            )
        return MeasurementSpec(
            fingerprint=upscaler.fingerprint,
            scale=upscaler.scale,
            samples=samples,
            prediction=self.prediction,
            indecision=indecision,
            fidelity=self.fidelity,
            input_rule=self.input_rule,
            stretch=self.stretch,
            align=aligns(upscaler),
            picture=picture,
        )
