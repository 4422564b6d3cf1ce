"""Which upscalers `auto` answers the inputs of a calibration with.

A calibration is of one upscaler and costs calls. Where the class of an upload chooses, those calls
are worth their price only for classes that the upscaler will answer.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.kinds.classes import class_of_way
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.kinds.features import UPLOAD, classify
from trustscale_server.platform.errors import BadInput, ConfigError
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import routed

_MAX_READ: Final = 40  # inputs of a folder whose classes are looked at


class AnsweredUploads(NamedTuple):
    """What one upscaler answers.

    made_by: how X is made for it; None: as the calibration's settings say, or X is given.
    kinds: the ways or classes of the uploads that it answers.
    """

    upscaler: str
    kinds: Sequence[str]
    made_by: Degradation | Mixture | None = None


def answered_uploads(
    routing: Mapping[str, str], config: CalibrationConfig, pairs: Sequence[PairSource], scale: int
) -> list[AnsweredUploads]:
    """Return the upscalers that answer the inputs of a calibration, by the routing of `auto`.

    Of a mixture each gets the ways that make its classes. Inputs that are given, or made in a way
    that is not among the typical ones, are looked at; nearly all of them must be for one upscaler.

    Raises:
        ConfigError: they are not, so somebody must choose.
    """
    made_by = None if any("x" in pair.paths for pair in pairs) else config.input_made_by(scale)
    if not isinstance(made_by, Mixture):
        return [_answering(routing, _classes(config, made_by, pairs, scale))]
    ways = defaultdict[str, dict[str, Mixture]](dict)
    for way, mixture in made_by.variants().items():
        typical = class_of_way(way)
        classes = Counter({typical: 1}) if typical else _classes(config, mixture, pairs, scale)
        ways[_answering(routing, classes).upscaler][way] = mixture
    return [
        AnsweredUploads(
            upscaler,
            [*by_way],
            Mixture(
                mixture=tuple(
                    component for mixture in by_way.values() for component in mixture.mixture
                ),
                shares={way: made_by.share(way) for way in by_way},
            ),
        )
        for upscaler, by_way in ways.items()
    ]


def answering_in_words(answering: Sequence[AnsweredUploads]) -> str:
    """Return which upscalers answer, for the person who waits for their calibrations."""
    if len(answering) == 1:
        return f"auto answers such uploads with {answering[0].upscaler}"
    shares = []
    for upscaler, kinds, _ in answering:
        named = ", ".join(kinds) if len(kinds) <= 3 else f"{len(kinds)} kinds of upload"
        shares.append(f"{upscaler} ({named})")
    return f"auto answers such uploads with {' and '.join(shares)}, each for its own"


def _answering(routing: Mapping[str, str], classes: Counter[str]) -> AnsweredUploads:
    """The upscaler of nearly all inputs. Raises ConfigError: there is none."""
    counts = Counter[str]()
    for name, count in classes.items():
        counts[routed(routing, name)] += count
    if not counts:  # nothing could be read; taking in the pairs will tell why
        return AnsweredUploads(routed(routing, ""), [])
    (first, most), *_ = counts.most_common()
    if most < 0.9 * counts.total():
        named = " and ".join(f"{count} with {name}" for name, count in counts.most_common())
        raise ConfigError(
            f"Of {counts.total()} inputs auto answers {named}: name the one that is meant with "
            "--upscaler, or run the command once for each."
        )
    return AnsweredUploads(first, [name for name in classes if routed(routing, name) == first])


def _classes(
    config: CalibrationConfig,
    made_by: Degradation | Mixture | None,
    pairs: Sequence[PairSource],
    scale: int,
) -> Counter[str]:
    """The classes of some inputs; pairs that cannot be used are left out."""
    pipeline = MeasurementSpec(
        fingerprint="",
        scale=scale,
        samples=1,
        indecision=IndecisionSettings("departure"),
        stretch=config.stretch,
    )
    classes = Counter[str]()
    step = max(1, math.ceil(len(pairs) / _MAX_READ))
    for pair in pairs[::step]:
        try:
            files = {role: Path(path).read_bytes() for role, path in pair.paths.items()}
            loaded = load_pair(pair, files, pipeline, degradation=made_by, seed=config.seed)
        except (BadInput, OSError):
            continue
        classes[classify(UPLOAD, loaded.features)] += 1
    return classes
