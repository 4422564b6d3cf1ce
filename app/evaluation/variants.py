"""The settings of σ and D that an evaluation compares, by name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.calibration.config import CalibrationConfig
from app.conformal.fidelity import METRICS, FidelitySettings
from app.conformal.folding import MAX_SAMPLES
from app.conformal.indecision import IndecisionSettings
from app.errors import BadRequest
from app.mistakes import mistakes
from app.sampling.pipeline import Pipeline, Prediction
from app.upscalers.base import Upscaler

PRICED_SAMPLES = (1, 2, 4, 8)
"""Numbers of generations that are compared unless others are named."""

PAPER_SIDE = 2048
"""Side in pixels of the crops of the paper's experiments, to which its blurs belong."""

BLURS = (0.0, 4.0, 16.0)
"""Standard deviations in pixels that are combined: none, the default, four times the default."""

PAPER_BLUR = 64.0
PAPER_BOUND = 3.0


class Variant(BaseModel):
    """One way to make Ŷ, σ and D from the same samples.

    samples, indecision: None means those of a new calibration of the upscaler (`for_upscaler`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    samples: int | None = Field(None, ge=1, le=MAX_SAMPLES)
    prediction: Prediction = "first"
    indecision: IndecisionSettings | None = None
    fidelity: FidelitySettings = FidelitySettings()
    note: str = ""

    @field_validator("fidelity")
    @classmethod
    def _measures_colour(cls, fidelity: FidelitySettings) -> FidelitySettings:
        if fidelity.row.unit == "label":
            raise ValueError("semantic columns are always made; name a metric on colours")
        return fidelity

    def for_upscaler(self, upscaler: Upscaler) -> Variant:
        """The same with M and σ named.

        Raises:
            BadRequest: the upscaler or the estimator cannot do with so many samples.
        """
        pipeline = self.pipeline(upscaler)
        chosen = {"samples": pipeline.samples, "indecision": pipeline.indecision}
        return self.model_copy(update=chosen)

    def pipeline(self, upscaler: Upscaler) -> Pipeline:
        """The pipeline that a calibration under these settings would have.

        Raises:
            BadRequest: the upscaler or the estimator cannot do with so many samples.
        """
        config = CalibrationConfig(
            samples=self.samples,
            prediction=self.prediction,
            indecision=self.indecision,
            fidelity=self.fidelity,
            input_rule=None,
        )
        return config.pipeline(upscaler)


def builtin(samples: int, side: float) -> list[Variant]:
    """The default, and the paper's recipe of `samples`, scaled from its images to those of `side`.

    They share their maps where they can: six variants cost four σ and three D.
    """
    blur = min(256.0, round(PAPER_BLUR * side / PAPER_SIDE, 2))
    recipe = IndecisionSettings(
        estimator="patch_variance", kernel="box", size=31, blur=blur, clip_quantile=0.95
    )
    return [
        Variant(name="default", note="M and σ of a new calibration, errors not cut."),
        Variant(
            name="paper",
            samples=samples,
            indecision=recipe,
            fidelity=FidelitySettings(blur=blur, bound=PAPER_BOUND),
            note=f"The paper's recipe: its blurs of {PAPER_BLUR:g} px on {PAPER_SIDE} px scaled to "
            f"{blur:g} px, and B = {PAPER_BOUND:g}.",
        ),
        Variant(
            name="paper-sigma",
            samples=samples,
            indecision=recipe,
            note="The paper's σ with the default's D.",
        ),
        Variant(
            name="residual",
            samples=1,
            indecision=IndecisionSettings("residual"),
            note="One sample against the enlarged input: no fit and no witness.",
        ),
        Variant(
            name="pointwise",
            fidelity=FidelitySettings(metric="pointwise"),
            note="The pointwise D, for which the bound on the PSNR holds.",
        ),
        Variant(
            name="counted",
            fidelity=FidelitySettings(bound=METRICS["neighborhood"].counted_up_to),
            note="The default with errors counted up to c, as new calibrations promise them.",
        ),
    ]


def priced(upscaler: Upscaler, samples: Sequence[int]) -> list[Pipeline]:
    """What new calibrations with so many samples would use, for each M that can be drawn."""
    most = upscaler.capabilities.max_samples or max(samples, default=0)
    counts = sorted({count for count in samples if count <= most})
    return [CalibrationConfig(samples=count).pipeline(upscaler) for count in counts]


def blurred(upscaler: Upscaler, samples: int) -> list[list[Pipeline]]:
    """The plain σ and D under every blur of `BLURS`, [blur of σ, blur of D] (Figure 5)."""
    return [
        [
            Pipeline(
                fingerprint=upscaler.fingerprint,
                scale=upscaler.scale,
                samples=samples,
                indecision=IndecisionSettings(blur=of_sigma),
                # Without blur the neighbourhood is the pixel; so named it shares that map.
                fidelity=FidelitySettings(
                    metric="neighborhood" if of_error else "pointwise", blur=of_error
                ),
            )
            for of_error in BLURS
        ]
        for of_sigma in BLURS
    ]


def widest(pipelines: Iterable[Pipeline]) -> Pipeline:
    """The pipeline with the largest window, which the images must not be smaller than."""
    return max(pipelines, key=lambda pipeline: pipeline.indecision.window)


def read_variants(path: Path) -> list[Variant]:
    """The variants of a TOML file: one table each, named by its heading.

    Raises:
        BadRequest: the file is not TOML, has no table, or a setting is wrong; the setting is named.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} is not a TOML file: {error}.") from error
    if not tables:
        raise BadRequest(f"{path} names no settings: one table per variant is needed.")
    return [_variant(path, name, table) for name, table in tables.items()]


def _variant(path: Path, name: str, table: Any) -> Variant:
    if not isinstance(table, dict):
        raise BadRequest(f"{path}: {name} is not a table of settings.")
    try:
        return Variant(name=name, **{key: value for key, value in table.items() if key != "name"})
    except ValidationError as error:
        raise BadRequest(f"{path}: {name}: {mistakes(error, Variant)}") from error
