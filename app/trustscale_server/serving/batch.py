"""Uploads that belong together: what they have in common adapts the masks of each of them.

A *batch* keeps the numbers that describe some uploads, and no pixels. A request that names one gets
a mask that is also cut by `conformal/adapted.py`: never a larger one, so the promise stays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from trustscale_server.calibration.guarantee_kinds import Expectation
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.adapted import (
    MIN_UPLOADS,
    adapted_curve,
    effective_number,
    likelihood_ratios,
)
from trustscale_server.conformal.step_curve import StepCurve
from trustscale_server.kinds.features import InputFeatures
from trustscale_server.platform.errors import BadRequest, NotFound
from trustscale_server.stores.results import ResultStore

BATCH_ID: Final = "batch-"
MAX_UPLOADS: Final = 64


class Batch(BaseModel):
    """Uploads that belong together."""

    id: str = Field(description="What requests name as `batch`; the same uploads give the same.")
    pictures: int = Field(description="The number of its uploads.")


class Adapted(BaseModel):
    """How the batch adapted the mask."""

    id: str
    pictures: int = Field(description="The number of uploads that describe the batch.")
    scenes: float = Field(
        description="How many equal calibration scenes say as much as those that are like the "
        "batch: below about 10 the adaptation is rough."
    )
    plain: str = Field(description="What the adaptation is worth, in words.")


@dataclass(frozen=True, slots=True)
class BatchCurve:
    """The curve that the masks of a batch's uploads are cut by, and what is said of it."""

    curve: StepCurve
    adapted: Adapted


class Batches:
    """The stored batches, and the curves that were used last."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._weighed = lru_cache(maxsize=32)(
            lambda document, whole: weighed(np.array(json.loads(document), np.float32), whole)
        )

    async def make(self, features: Sequence[InputFeatures]) -> Batch:
        """Keep the batch of these uploads.

        Raises:
            BadRequest: too few or too many.
        """
        count = len(features)
        if not MIN_UPLOADS <= count <= MAX_UPLOADS:
            raise BadRequest(
                f"A batch is described by {MIN_UPLOADS} to {MAX_UPLOADS} pictures; these are "
                f"{count}."
            )
        rows = sorted([round(number, 4) for number in upload.described] for upload in features)
        document = json.dumps(rows).encode()
        batch = Batch(id=BATCH_ID + hashlib.sha256(document).hexdigest()[:20], pictures=count)
        await self._store.put(batch.id, document, {}, ttl_s=7 * 24 * 3600)
        return batch

    async def read(self, name: str) -> bytes:
        """Return what is kept of a batch.

        Raises:
            NotFound: there is no such batch, or no longer.
        """
        if name.startswith(BATCH_ID):
            with suppress(NotFound):
                return await self._store.document(name)
        raise NotFound(
            f"There is no batch {name!r}, or no longer: send its pictures to POST /v1/batches."
        )

    def curve(self, name: str, document: bytes, whole: Subset, of_class: Subset) -> BatchCurve:
        """Return the curve for an upload of a batch.

        whole: the pairs that are weighed: all of them, or those of the request's group.
        of_class: the pairs of its class, whose curve holds without the batch.

        Raises:
            BadRequest: the calibration does not describe its pictures, or promises otherwise.
        """
        weighed = self._weighed(document, whole)
        return BatchCurve(
            of_class.curve.at_least(weighed.curve),
            Adapted(
                id=name,
                pictures=weighed.pictures,
                scenes=round(weighed.scenes, 1),
                plain=f"Adapted to your {weighed.pictures} pictures by calibration pictures that "
                f"look like them (worth about {weighed.scenes:.0f} scenes). That is an estimate: "
                "it only makes the mask smaller, and the promise holds as without it.",
            ),
        )


class Weighed(NamedTuple):
    """The curve of a calibration's pairs, weighed by a batch, and how many scenes it is worth."""

    curve: StepCurve
    pictures: int
    scenes: float


def weighed(described: NDArray[np.float32], whole: Subset) -> Weighed:
    """Return the curve of all pairs, weighed by the numbers of a batch's uploads, [m, d].

    Raises:
        BadRequest: as of `Batches.curve`.
    """
    arrays, numbers = whole.arrays, whole.arrays.described
    if numbers is None or numbers.shape[1] != described.shape[1]:
        raise BadRequest(
            "The calibration does not describe its pictures, so no batch can adapt its masks: "
            "leave `batch` out, or calibrate again."
        )
    if not isinstance(whole.guarantee, Expectation):
        raise BadRequest(
            f"A batch adapts promises of the kind expectation, not {whole.guarantee.kind}: leave "
            "`batch` or `guarantee` out."
        )
    ratios = likelihood_ratios(numbers, described)
    curve = adapted_curve(
        arrays.loss_curves, arrays.spots, whole.bound, ratios, highest=whole.highest
    )
    scenes = effective_number(ratios.calibrated, whole.members)
    return Weighed(curve, len(described), scenes)
