"""The settings that an evaluation compares, by name."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from app.calibration.config import CalibrationConfig
from app.calibration.guarantee import HighProbability
from app.calibration.record import Calibration
from app.config_errors import mistakes
from app.conformal.fidelity import FidelitySettings
from app.conformal.indecision import IndecisionSettings
from app.errors import BadRequest
from app.images.degrade import Degradation, Mixture
from app.sampling.pipeline import DEFAULT_SAMPLES, Pipeline, default_estimator
from app.upscalers.base import Upscaler, witness_of

SERVED, PAPER, SEMANTIC_MASK, CERTAIN = "served", "paper", "paper, semantic D", "paper, certain"
"""Built-in variants that texts and figures name."""

SEMANTIC: Final = FidelitySettings(metric="semantic", labels="synthetic")
"""Labels of a rule, not of a person."""

PAPER_SIDE = 2048
"""Side in pixels of the paper's crops, to which its blurs belong."""

PAPER_BLUR, PAPER_BOUND = 64.0, 3.0

SETTINGS: Final = {
    *("samples", "prediction", "indecision", "fit_indecision"),
    *("fidelity", "guarantee", "input_rule", "stretch"),
}
"""What a table of a file can set."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to calibrate, or a given calibration."""

    name: str
    config: CalibrationConfig = field(default_factory=CalibrationConfig)
    note: str = ""
    calibration: Calibration | None = None

    def pipeline(self, upscaler: Upscaler) -> Pipeline:
        """The pipeline of the calibration, before σ is fitted on its images.

        Raises BadRequest if so many samples are impossible.
        """
        if self.calibration is not None:
            return self.calibration.pipeline
        return self.config.pipeline(upscaler)

    def made_by(self, degradation: Degradation | Mixture | None) -> Variant:
        """The same with inputs made in this way."""
        return replace(self, config=self.config.model_copy(update={"degradation": degradation}))


def served() -> list[Variant]:
    """The service's defaults, and σ without fit and witness."""
    return [
        Variant(SERVED, note="What `trustscale calibrate` makes of these images by default."),
        Variant(
            "no witness",
            CalibrationConfig(indecision=IndecisionSettings("residual")),
            "The same with a σ that compares one sample with the enlarged input: no fit, no "
            "witness.",
        ),
    ]


def compared(first: Variant, samples: Sequence[int]) -> list[Variant]:
    """The same settings with other numbers of generations."""
    own = first.config.samples or DEFAULT_SAMPLES
    return [
        Variant(f"{first.name}, M = {count}", first.config.model_copy(update={"samples": count}))
        for count in samples
        if count != own
    ]


def paper(upscalers: Sequence[Upscaler], samples: int, side: float, delta: float) -> list[Variant]:
    """The paper's setting: M samples, errors not cut, σ not fitted, no classes of uploads.

    Its blurs are scaled to images of `side` pixels.
    """
    plain = default_estimator(samples)

    def uncut(name: str, note: str, m: int = samples, sigma: str = plain, **fields: Any) -> Variant:
        given = {"samples": m, "input_rule": None, "fit_indecision": 0.0}
        settings = {"indecision": IndecisionSettings(sigma), "fidelity": FidelitySettings()}
        return Variant(name, CalibrationConfig(**{**given, **settings, **fields}), note)

    found = [
        uncut(PAPER, "Errors not cut, σ not fitted, no classes."),
        uncut(SEMANTIC_MASK, "The labels of a rule.", fidelity=SEMANTIC),
        uncut(
            CERTAIN,
            f"With probability {1 - delta:g} over the draw of the calibration images.",
            guarantee=HighProbability(delta=delta),
        ),
        uncut(
            "pointwise",
            "The pointwise D, for which the bound on the PSNR holds.",
            fidelity=FidelitySettings(metric="pointwise"),
        ),
        uncut(
            "one call",
            "One sample under the σ of a new calibration.",
            DEFAULT_SAMPLES,
            indecision=None,
        ),
        uncut("no witness", "One sample against the enlarged input.", 1, "residual"),
    ]
    if samples > 1:
        blur = min(256.0, round(PAPER_BLUR * side / PAPER_SIDE, 2))
        found.append(
            uncut(
                "recipe",
                f"The paper's σ and D: its blurs of {PAPER_BLUR:g} px on {PAPER_SIDE} px scaled to "
                f"{blur:g} px, and B = {PAPER_BOUND:g}.",
                indecision=IndecisionSettings(
                    "patch_variance", kernel="box", size=31, blur=blur, clip_quantile=0.95
                ),
                fidelity=FidelitySettings(blur=blur, bound=PAPER_BOUND),
            )
        )
    if all(witness_of(upscaler) is not None for upscaler in upscalers):
        found.append(uncut("witness", "One sample against the witness.", 1, "witness"))
    return found


def read_variants(path: Path) -> list[Variant]:
    """The variants of a TOML file: one table of settings each, named by its heading.

    Raises:
        BadRequest: no TOML, no table, or a wrong setting, which is named.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} is not a TOML file: {error}.") from error
    if not tables:
        raise BadRequest(f"{path} names no settings: one table per variant is needed.")
    return [_variant(f"{path}: {name}", name, table) for name, table in tables.items()]


def _variant(place: str, name: str, table: Any) -> Variant:
    if not isinstance(table, dict):
        raise BadRequest(f"{place} is not a table of settings.")
    if unknown := table.keys() - SETTINGS:
        raise BadRequest(f"{place}: {min(unknown)} is none of {', '.join(sorted(SETTINGS))}.")
    rule = {"input_rule": None} if table.get("input_rule") == "none" else {}
    try:
        config = CalibrationConfig(**{**table, **rule})
    except ValidationError as error:
        raise BadRequest(f"{place}: {mistakes(error, CalibrationConfig)}") from error
    if config.fidelity.row.needs_label:
        raise BadRequest(f"{place}: nobody labels here; name a metric on colours.")
    if config.guarantee.kind == "post_hoc":
        raise BadRequest(f"{place}: levels are fixed here; name a guarantee for one fixed α.")
    return Variant(name, config)
