"""What every calibration is checked for before it is stored, whether made here or imported.

Numbers that no measurement gives, or pairs that leave no scene, do not fail where a file is read
but when somebody uploads, or mislead there. The manifest's own types check its fields
(`manifest.py`, `guarantee_kinds.py`); this module checks what they have in common with each other
and with the arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.conformal.review import TOLERANCES
from trustscale_server.platform.errors import BadCalibration, shortened


def raise_if_unusable(calibration: Calibration) -> None:
    """Check a whole calibration.

    Raises:
        BadCalibration: nothing can be served from it; the first reason is named.
    """
    reason = next(_faults(calibration), None)
    if reason is not None:
        raise BadCalibration(f"The calibration cannot be used: {reason}.")


def _faults(calibration: Calibration) -> Iterator[str]:
    try:
        json.dumps(calibration.document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        yield "a name or another text holds half of a character"
    manifest, sigma = calibration.manifest, calibration.arrays.sigma_quantiles
    if not (np.isfinite(sigma).all() and (sigma >= 0).all()):
        yield "quantiles of σ are finite and not negative"
    for pair in manifest.pairs:
        for reason in _faults_of_pair(pair, manifest.pairs[0]):
            yield f"the pair {shortened(pair.name)} {reason}"
    if calibration.n < 1:
        yield "its pairs make no whole scene, such as one that was made in all ways"
    guarantee, pipeline = manifest.guarantee, manifest.pipeline
    if guarantee.fitted_to(pipeline.indecision) != guarantee:
        yield "its guarantee does not say how thresholds follow from σ"
    try:
        guarantee.raise_if_unsuited(pipeline.fidelity)
    except ValueError as error:
        yield str(error)


def _faults_of_pair(pair: PairInfo, first: PairInfo) -> Iterator[str]:
    if bool(pair.off) != bool(first.off):
        yield "lacks numbers that others have, or has more"
    if pair.off and (len(pair.off), len(pair.high_sigma)) != (len(TOLERANCES), 2):
        yield f"needs {len(TOLERANCES)} shares of wrong pixels and two high σ"
