"""The settings of σ and D that an evaluation compares, by name."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.conformal.fidelity import METRICS, FidelitySettings
from app.conformal.folding import MAX_SAMPLES
from app.conformal.indecision import IndecisionSettings
from app.errors import BadRequest
from app.mistakes import mistakes
from app.sampling.pipeline import Pipeline, Prediction
from app.upscalers.base import Upscaler

DEFAULT_SAMPLES = 8

PAPER_SIDE = 2048
"""Side in pixels of the crops of the paper's experiments, to which its blurs belong."""

PAPER_BLUR = 64.0
PAPER_BOUND = 3.0


class Variant(BaseModel):
    """One way to make Ŷ, σ and D from the same samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    samples: int = Field(DEFAULT_SAMPLES, ge=1, le=MAX_SAMPLES)
    prediction: Prediction = "first"
    indecision: IndecisionSettings = IndecisionSettings()
    fidelity: FidelitySettings = FidelitySettings()
    note: str = ""

    @field_validator("fidelity")
    @classmethod
    def _measures_colour(cls, fidelity: FidelitySettings) -> FidelitySettings:
        if fidelity.row.unit == "label":
            raise ValueError("semantic columns are always made; name a metric on colours")
        return fidelity

    def pipeline(self, upscaler: Upscaler) -> Pipeline:
        """The pipeline that a calibration under these settings would have."""
        return Pipeline(
            fingerprint=upscaler.fingerprint,
            scale=upscaler.scale,
            samples=self.samples,
            prediction=self.prediction,
            indecision=self.indecision,
            fidelity=self.fidelity,
        )


def builtin(samples: int, side: float) -> list[Variant]:
    """The plain default, and the paper's recipe scaled from its images to images of `side`.

    They share their maps where they can: five variants cost two σ and four D.
    """
    blur = min(256.0, round(PAPER_BLUR * side / PAPER_SIDE, 2))
    recipe = IndecisionSettings(
        estimator="patch_variance", kernel="box", size=31, blur=blur, clip_quantile=0.95
    )
    return [
        Variant(name="default", samples=samples, note="Plain σ, errors not cut."),
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
            note="The paper's σ with the default's D: only σ differs from the default.",
        ),
        Variant(
            name="pointwise",
            samples=samples,
            fidelity=FidelitySettings(metric="pointwise"),
            note="The default's σ with the pointwise D, for which the bound on the PSNR holds.",
        ),
        Variant(
            name="counted",
            samples=samples,
            fidelity=FidelitySettings(bound=METRICS["neighborhood"].counted_up_to),
            note="The default with errors counted up to c, as new calibrations promise them.",
        ),
    ]


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


def most_samples(variants: Sequence[Variant]) -> int:
    """M to generate: variants with fewer use the first ones."""
    return max(variant.samples for variant in variants)
