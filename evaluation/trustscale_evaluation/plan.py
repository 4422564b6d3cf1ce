"""What is evaluated: which images calibrate, which ones test, and the settings that are compared.

Crops of one photograph resemble each other, so whole scenes are drawn where they are known.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import ValidationError

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.grouping import (
    BY_FOLDER,
    SCENE_COLUMNS,
    GroupingRule,
    column_of,
    read_table,
)
from trustscale_server.calibrating.intake import find_in
from trustscale_server.calibrating.layout import IMAGE_SUFFIXES, MANIFEST
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import Expectation, HighProbability
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.degradation import Degradation, Mixture
from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import BadRequest
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.spec import DEFAULT_SAMPLES, MeasurementSpec, default_estimator
from trustscale_server.upscalers.base import Upscaler

CALIBRATION, _TEST = "calibration", "test"

_PHOTOGRAPH_COLUMNS = (*SCENE_COLUMNS, "group", "source_file", "photograph", "source")
"""Columns of a manifest that name the photograph of an image, the first that exists counts."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The calibration images and the test images, and how they were divided.

    how: `given` by folders, or drawn by `scene` or by `image`.
    """

    calibration: Sequence[PairSource]
    test: Sequence[PairSource]
    how: Literal["given", "scene", "image"]

    @property
    def scenes(self) -> list[str]:
        """The scene of each calibration image."""
        return [scene_name(item) for item in self.calibration]

    @property
    def test_scenes(self) -> list[str]:
        """The scene of each test image."""
        return [scene_name(item) for item in self.test]

    @property
    def shared(self) -> int:
        """Number of test images whose scene also calibrates, in a given division."""
        known = {item.scene for item in self.calibration if item.scene is not None}
        return sum(item.scene in known for item in self.test)


def scene_name(item: PairSource) -> str:
    """Return the scene of an image, or a unique name."""
    return f"scene:{item.scene}" if item.scene is not None else f"pair:{item.upload}"


def make_plan(
    folders: Sequence[Path], *, share: float | None, seed: int, column: str | None = None
) -> EvaluationPlan:
    """Find the images of the folders and divide them; without a share all of them test.

    A single folder with `calibration/` and `test/` brings its own division. Else images are pairs
    as `trustscale calibrate` takes them, in sub-folders that are scenes, or with scenes in a column
    of `manifest.csv`, by default the first of `_PHOTOGRAPH_COLUMNS` that exists.

    Raises:
        BadPairs: no images, or images that cannot be paired.
        BadRequest: an unusable manifest, or too few scenes to divide.
    """
    if len(folders) == 1 and all((folders[0] / side).is_dir() for side in (CALIBRATION, _TEST)):
        calibration, test = (find_items(folders[0] / side, column) for side in (CALIBRATION, _TEST))
        # Names may repeat in the two folders.
        return EvaluationPlan(_prefixed(calibration, CALIBRATION), _prefixed(test, _TEST), "given")
    by_folder = [find_items(folder, column) for folder in folders]
    if len(folders) > 1:
        names = [folder.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = [f"{name}-{number}" for number, name in enumerate(names, start=1)]
        by_folder = [
            _prefixed(of_folder, name) for of_folder, name in zip(by_folder, names, strict=True)
        ]
    items = [item for of_folder in by_folder for item in of_folder]
    if share is None:
        return EvaluationPlan([], items, "given")
    calibration, test = split(items, share, seed)
    named = any(item.scene is not None for item in items)
    return EvaluationPlan(calibration, test, "scene" if named else "image")


def split(
    items: Sequence[PairSource], share: float, seed: int
) -> tuple[list[PairSource], list[PairSource]]:
    """Divide by scenes, at random, so that about `share` of the images calibrate.

    The order of the images does not matter; at least one scene is on each side. Raises BadRequest
    for fewer than two scenes.
    """
    scenes = defaultdict(list)
    for item in sorted(items, key=lambda item: item.name):
        scenes[scene_name(item)].append(item)
    if len(scenes) < 2:
        raise BadRequest(
            f"{len(items)} images of {len(scenes)} photographs cannot be divided into calibration "
            "and test images; at least two photographs are needed."
        )
    names = sorted(scenes)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))
    sizes = np.cumsum([len(scenes[names[place]]) for place in order])
    # The number of scenes whose images come nearest to the share.
    count = 1 + int(np.argmin(np.abs(sizes[:-1] - share * len(items))))
    sides: tuple[list[PairSource], list[PairSource]] = ([], [])
    for rank, place in enumerate(order):
        sides[rank >= count].extend(scenes[names[place]])
    return sides


def find_items(folder: Path, column: str | None = None) -> list[PairSource]:
    """Return the pairs of one folder, with their scenes where folders or a manifest name them.

    Raises BadPairs or BadRequest, as `make_plan`.
    """
    base = folder / "y" if (folder / "y").is_dir() else folder
    inner = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    if any(map(_holds_images, inner)) and not _holds_images(base):
        return find_in(folder, GroupingRule(scene_by=BY_FOLDER))
    scenes = _manifest_scenes(folder / MANIFEST, column)
    return [replace(pair, scene=scenes.get(pair.name)) for pair in find_in(folder)]


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def _manifest_scenes(path: Path, column: str | None) -> Mapping[str, str]:
    """The scenes of a manifest by image. Raises BadRequest."""
    rows = read_table(path.read_bytes()) if path.is_file() else None
    scene_column = column or next(
        (name for name in _PHOTOGRAPH_COLUMNS if rows and name in rows[0]), None
    )
    return {} if scene_column is None else column_of(rows, scene_column)


def _prefixed(items: Sequence[PairSource], prefix: str) -> list[PairSource]:
    return [replace(item, name=f"{prefix}/{item.name}") for item in items]


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

        Raises BadRequest if so many samples are impossible.
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
    usual = first.config.samples or DEFAULT_SAMPLES
    return [
        Variant(f"{first.name}, M = {count}", first.config.model_copy(update={"samples": count}))
        for count in samples
        if count != usual
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
