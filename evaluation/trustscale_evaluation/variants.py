"""The settings that are compared: built in, or from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantee_kinds import Expectation, HighProbability
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import BadRequest
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.spec import DEFAULT_SAMPLES, MeasurementSpec, default_estimator
from trustscale_server.upscalers.base import Upscaler

SERVED, PAPER, _CERTAIN = "served", "paper", "paper, certain"
"""Built-in variants that texts and figures name."""

_PAPER_SIDE = 2048
"""Side in pixels of the paper's crops, to which its blurs belong."""

_PAPER_BLUR, _PAPER_BOUND = 64.0, 3.0

_SETTINGS: Final = {
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

    def pipeline(self, upscaler: Upscaler) -> MeasurementSpec:
        """Return the pipeline of the calibration, before σ is fitted on its images.

        Raises BadRequest if the upscaler cannot make that many samples.
        """
        if self.calibration is not None:
            return self.calibration.pipeline
        return self.config.pipeline(upscaler)

    def made_by(self, degradation: Degradation | Mixture | None) -> Variant:
        """Return the variant with inputs made in this way."""
        return replace(self, config=self.config.model_copy(update={"degradation": degradation}))


def served() -> list[Variant]:
    """Return the service's defaults, and σ without a fit."""
    return [
        Variant(SERVED, note="What `trustscale calibrate` makes of these images by default."),
        Variant(
            "no fit",
            CalibrationConfig(indecision=IndecisionSettings("departure")),
            "The same with a σ that compares one sample with the enlarged input.",
        ),
    ]


def compared(first: Variant, samples: Sequence[int]) -> list[Variant]:
    """Return these settings with other numbers of generations."""
    own_samples = first.config.samples or DEFAULT_SAMPLES
    return [
        Variant(f"{first.name}, M = {count}", first.config.model_copy(update={"samples": count}))
        for count in samples
        if count != own_samples
    ]


def paper(samples: int, side: float, delta: float) -> list[Variant]:
    """Return the paper's setting: M samples, whole pictures, no cut, fit or classes.

    Its blurs are scaled to images of `side` pixels.
    """
    plain = default_estimator(samples)

    def uncut(name: str, note: str, m: int = samples, sigma: str = plain, **fields: Any) -> Variant:
        given = {
            "samples": m,
            "input_rule": None,
            "fit_indecision": 0.0,
            "guarantee": Expectation(),  # for images like the calibration's alone
        }
        settings = {
            "indecision": IndecisionSettings(sigma),
            "fidelity": FidelitySettings(unit="picture"),
        }
        return Variant(name, CalibrationConfig(**{**given, **settings, **fields}), note)

    variants = [
        uncut(PAPER, "Errors not cut, σ not fitted, no classes."),
        uncut(
            _CERTAIN,
            f"With probability {1 - delta:g} over the draw of the calibration images.",
            guarantee=HighProbability(delta=delta),
        ),
        uncut(
            "pointwise",
            "The pointwise D, for which the bound on the PSNR holds.",
            fidelity=FidelitySettings(metric="pointwise", unit="picture"),
        ),
        uncut(
            "one call",
            "One sample under the σ of a new calibration.",
            DEFAULT_SAMPLES,
            indecision=None,
        ),
        uncut("no fit", "One sample against the enlarged input.", 1, "departure"),
    ]
    if samples > 1:
        blur = min(256.0, round(_PAPER_BLUR * side / _PAPER_SIDE, 2))
        variants.append(
            uncut(
                "recipe",
                f"The paper's σ and D: its blurs of {_PAPER_BLUR:g} px on {_PAPER_SIDE} px scaled "
                f"to {blur:g} px, and B = {_PAPER_BOUND:g}.",
                indecision=IndecisionSettings(
                    "patch_variance", kernel="box", size=31, blur=blur, clip_quantile=0.95
                ),
                fidelity=FidelitySettings(blur=blur, bound=_PAPER_BOUND, unit="picture"),
            )
        )
    return variants


def read_variants(path: Path) -> list[Variant]:
    """Return the variants of a TOML file: one table of settings each, named by its heading.

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
    if unknown := table.keys() - _SETTINGS:
        raise BadRequest(f"{place}: {min(unknown)} is none of {', '.join(sorted(_SETTINGS))}.")
    rule = {"input_rule": None} if table.get("input_rule") == "none" else {}
    try:
        config = CalibrationConfig(**{**table, **rule})
    except ValidationError as error:
        raise BadRequest(f"{place}: {mistakes(error, CalibrationConfig)}") from error
    if config.fidelity.spec.needs_label:
        raise BadRequest(f"{place}: nobody labels here; name a metric on colours.")
    if config.guarantee.kind == "post_hoc":
        raise BadRequest(f"{place}: levels are fixed here; name a guarantee for one fixed α.")
    return Variant(name, config)
