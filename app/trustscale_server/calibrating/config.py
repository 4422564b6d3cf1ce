"""A calibration's request: settings, each with a sensible default, and pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import OnBadPair, variants_of
from trustscale_server.calibration.guarantees import LEVELS, ROBUST, AnyGuarantee, Expectation
from trustscale_server.calibration.manifest import Manifest
from trustscale_server.calibration.review_settings import ReviewSettings
from trustscale_server.conformal.fidelity import METRICS, FidelitySettings
from trustscale_server.images.degradation import Degradation, MadeBy, Mixture
from trustscale_server.images.features import BANDS, RULES, UPLOAD
from trustscale_server.images.raster import Stretch
from trustscale_server.images.usual import USUAL
from trustscale_server.platform.errors import BadRequest, Conflict
from trustscale_server.sampling.align import aligns
from trustscale_server.sampling.sigma import fitting
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.moments import MAX_SAMPLES
from trustscale_server.sampling.spec import (
    DEFAULT_SAMPLES,
    MeasurementSpec,
    Prediction,
    default_estimator,
    default_indecision,
)
from trustscale_server.stores.base import Job, Progress
from trustscale_server.upscalers.base import Upscaler, settings_of, stated_of

_OF_MANIFEST: Final = ("name", "default_alpha", "guarantee", "review", "degradation", "seed")
_OF_PIPELINE: Final = (
    *("samples", "prediction", "indecision", "fidelity"),
    *("input_rule", "stretch"),
)
"""Fields of the settings that stand in the manifest, and in the pipeline."""


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
    prediction: Prediction = Field("first", description="Which of the samples is the picture.")
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
    def _estimator(cls, fields: Any) -> Any:
        """A window of σ without an estimator is for the plain σ of M."""
        match fields:
            case {"samples": int(samples), "indecision": dict(indecision)}:
                if "estimator" not in indecision:
                    named = {"estimator": default_estimator(samples), **indecision}
                    return {**fields, "indecision": named}
        return fields

    @model_validator(mode="before")
    @classmethod
    def _usually_robust(cls, data: Any) -> Any:
        match data:
            case {"guarantee": dict(guarantee)}:
                return {**data, "guarantee": {"robust": ROBUST, **guarantee}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _usual_bound(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fidelity = data.get("fidelity", {})
        if not isinstance(fidelity, dict) or fidelity.get("bound") is not None:
            return data
        row = METRICS.get(str(fidelity.get("metric", FidelitySettings().metric)))
        return {**data, "fidelity": {**fidelity, "bound": row and row.loss_clipped_at}}

    @model_validator(mode="before")
    @classmethod
    def _of_data(cls, data: Any) -> Any:
        # Of such validators the last is the first to run.
        if not isinstance(data, dict) or not data.get("stretch"):
            return data
        fidelity = data.get("fidelity", {})
        usual: dict[str, Any] = {"input_rule": BANDS}
        if isinstance(fidelity, dict):
            fidelity = {"metric": "intensity", **fidelity}
            if fidelity["metric"] == "intensity":
                # Errors as shares of the stretch are smaller than those of colours.
                usual["default_alpha"] = LEVELS["strict"]
        return {**usual, **data, "fidelity": fidelity}

    @field_validator("input_rule")
    @classmethod
    def _known_rule(cls, rule: str | None) -> str | None:
        if rule not in {None, *RULES}:
            raise ValueError(f"input_rule must be null or one of {RULES}")
        return rule

    def input_made_by(self, scale: int) -> Degradation | Mixture:
        """Return how X is made from Y: as chosen, else as this upscaler's usual uploads.

        Where people label every prediction, or nothing is upscaled, X is made in one way.
        """
        if self.degradation is not None:
            return self.degradation
        is_of_uploads = self.input_rule == UPLOAD
        plain = scale == 1 or self.fidelity.spec.needs_label or not is_of_uploads
        return Degradation() if plain else USUAL

    @model_validator(mode="after")
    def _fits_one(self) -> CalibrationConfig:
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
                **{name: getattr(pipeline, name) for name in _OF_PIPELINE},
                **{name: getattr(manifest, name) for name in _OF_MANIFEST},
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
            BadRequest: the upscaler or the estimator cannot do with so many samples.
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
        most = upscaler.capabilities.max_samples
        if most is not None and samples > most:
            raise BadRequest(f"The upscaler {upscaler.name!r} draws at most {most} samples.")
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
        )


@dataclass(frozen=True, slots=True)
class FitSplit:
    """The names of the pairs that σ is fitted on, their scenes, and notes on both."""

    fitted: frozenset[str] = frozenset()
    scenes: int = 0
    note: str | None = None


USUAL_SHARE = 0.3
"""Share of the scenes that σ is fitted on by default."""


def usual_share(scenes: int) -> float:
    """Return the default share of so many scenes that σ is fitted on.

    Fit and calibration have `MIN_SCENES` each; with fewer nothing is fitted.
    """
    if scenes < 2 * fitting.MIN_SCENES:
        return 0.0
    return max(USUAL_SHARE, fitting.MIN_SCENES / scenes)


def fit_split(scenes: Mapping[str, str], share: float, seed: int) -> FitSplit:
    """Return the pairs of the share, 0 … 0.9, of the scenes that the seed draws to fit on.

    `scenes` has the scene of each pair, by its name.
    """
    if not share:
        return FitSplit()
    known = sorted(
        set(scenes.values()),
        key=lambda scene: hashlib.sha256(f"fit:{seed}:{scene}".encode()).digest(),
    )
    count = round(share * len(known))
    if count < fitting.MIN_SCENES:
        return FitSplit(
            note=f"σ was not fitted: {count} of {len(known)} scenes would cost the calibration "
            f"more than they give; at least {fitting.MIN_SCENES} are needed."
        )
    chosen = set(known[:count])
    names = frozenset(name for name, scene in scenes.items() if scene in chosen)
    note = f"σ was fitted on {count} of {len(known)} scenes; the others calibrate."
    return FitSplit(names, count, note)


class CalibrationRequest(BaseModel):
    """A calibration job's request, as the job store keeps it.

    enlarged_by: as `Provenance`.
    done: the calibration of the same pairs under the same settings, whose measurements are used.
    """

    model_config = ConfigDict(frozen=True)

    config: CalibrationConfig
    pipeline: MeasurementSpec
    upscaler: str
    pairs: list[PairSource]
    skipped: list[dict[str, str]]
    created_by: str
    parent: str | None = None
    settings: dict[str, str] = {}
    enlarged_by: str | None = None
    done: str | None = None

    @property
    def key(self) -> str:
        """A digest that is equal for equal pairs whose measurement has equal settings."""
        digest = hashlib.sha256(self.pipeline.model_dump_json().encode())
        digest.update(self.upscaler.encode())  # several may have one fingerprint
        settings = self.config.model_dump_json(include={"degradation", "seed", "fit_indecision"})
        digest.update(settings.encode())
        if self.parent is not None:
            digest.update(self.parent.encode())
        for pair in sorted(
            ":".join([pair.name, *(str(pair.sha256.get(role)) for role in ("x", "y", "labels"))])
            + (f":{pair.sha256['enlarged']}" if "enlarged" in pair.sha256 else "")
            for pair in self.pairs
        ):
            digest.update(pair.encode())
        # Scenes matter too: none may calibrate in one run and be fitted on in another.
        for name in sorted(self.fit_split.fitted):
            digest.update(name.encode())
        return digest.hexdigest()[:24]

    @classmethod
    def from_job(cls, job: Job) -> CalibrationRequest:
        """Return the request of a stored job."""
        return cls.model_validate(job.request)

    @classmethod
    def asking(
        cls,
        config: CalibrationConfig,
        pipeline: MeasurementSpec,
        upscaler: Upscaler,
        uploads: Sequence[PairSource],
        **fields: Any,
    ) -> CalibrationRequest:
        """Make the request to an upscaler; where no X is given, the config says how it is made.

        One upload has an X if all have. `fields` are further ones.
        """
        made_by = None if "x" in uploads[0].sha256 else config.input_made_by(pipeline.scale)
        scenes = {upload.scene or upload.name for upload in uploads}
        share = config.fit_indecision or 0.0
        if config.fit_indecision is None and config.may_fit(pipeline.indecision):
            share = usual_share(len(scenes))
        chosen = {"degradation": made_by, "fit_indecision": share}
        variants = variants_of(made_by)
        return cls(
            config=config.model_copy(update=chosen),
            pipeline=pipeline,
            upscaler=upscaler.name,
            pairs=[pair for upload in uploads for pair in upload.in_variants(variants)],
            settings=settings_of(upscaler),
            enlarged_by=stated_of(upscaler),
            **fields,
        )

    def as_job(self, job: str, **about: str | None) -> Job:
        """Make the job of this id for the request; `about` is what lists show besides."""
        return Job(
            id=job,
            kind="calibration",
            progress=Progress(total=0 if self.done else len(self.pairs), unit="pairs"),
            created_at=datetime.now(UTC),
            about={"key": self.created_by.removeprefix("key "), **self.about, **about},
            request=self.model_dump(mode="json", exclude={"pairs": {"__all__": {"paths"}}}),
        )

    def pair(self, name: str) -> PairSource:
        """Return the pair of a name."""
        return self._by_name[name]

    @cached_property
    def names(self) -> list[str]:
        """The names of all pairs."""
        return [pair.name for pair in self.pairs]

    @cached_property
    def _by_name(self) -> dict[str, PairSource]:
        return {pair.name: pair for pair in self.pairs}

    @cached_property
    def fit_split(self) -> FitSplit:
        """The pairs that σ is fitted on."""
        scenes = {pair.name: pair.scene or pair.upload for pair in self.pairs}
        return fit_split(scenes, self.config.fit_indecision or 0.0, self.config.seed)

    @property
    def about(self) -> dict[str, str | None]:
        """What lists show of the job."""
        return {
            "name": self.config.name,
            "upscaler": self.upscaler,
            "metric": self.pipeline.fidelity.metric,
            "labels": "people" if self.pipeline.fidelity.spec.needs_label else None,
            "parent": self.parent,
            "left_out": str(len(self.skipped)),
        }
