"""Mask and trust levels of one answer, filled strip by strip while σ is made, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.review import SigmaCounts
from trustscale_server.conformal.step_curve import CODE_STEPS, NEVER
from trustscale_server.images.encoding.overlay import OPAQUE
from trustscale_server.images.encoding.png import write_png
from trustscale_server.pixels.boxes import box_of
from trustscale_server.pixels.resize import largest_within
from trustscale_server.sampling.sigma.words import ReadPage
from trustscale_server.serving.admit import MaskRequest
from trustscale_server.serving.document import ReadWord
from trustscale_server.serving.file_names import MASK, TRUST
from trustscale_server.serving.left_out import LeftOut, listed_corners
from trustscale_server.serving.provenance import png_text
from trustscale_server.stores.spool import spooled


@dataclass(slots=True)
class Trust:
    """Where Ŷ is trusted at α, bool [H, W], and the codes of α(p), uint16 [H, W].

    opaque: where the picture is wholly opaque, bool [H, W]; None: everywhere.
    sigma_counts: of the opaque pixels, before any reduction.
    left_out: places that are trusted at no α.
    """

    request: MaskRequest
    mask: NDArray[np.bool_]
    codes: NDArray[np.uint16]
    opaque: NDArray[np.bool_] | None
    sigma_counts: SigmaCounts = field(default_factory=SigmaCounts)
    lock: Lock = field(default_factory=Lock)
    left_out: list[tuple[tuple[slice, slice], NDArray[np.bool_]]] = field(default_factory=list)

    @classmethod
    def empty(
        cls, request: MaskRequest, alpha: NDArray[np.uint8] | None, height: int, width: int
    ) -> Self:
        """Make an empty one for `put` to fill."""
        size = height, width
        opaque = None if alpha is None else alpha == OPAQUE
        return cls(request, np.empty(size, np.bool_), np.empty(size, np.uint16), opaque)

    def put(self, top: int, sigma: NDArray[np.float32]) -> None:
        """Add the rows of σ from `top` on. Pixels that are not opaque are trusted at no α."""
        rows = slice(top, top + len(sigma))
        judged = sigma if self.opaque is None else sigma[self.opaque[rows]]
        with self.lock:
            self.sigma_counts.add(judged)
        if self.opaque is not None:
            sigma[~self.opaque[rows]] = np.inf
        curve = self.request.applicable.curve
        self.mask[rows] = curve.mask(sigma, self.request.alpha)
        self.codes[rows] = curve.trust_code(sigma)
        for place, inside in self.left_out:
            self._clear(place, inside, rows)

    def leave_out(self, places: Sequence[LeftOut]) -> None:
        """Trust these at no α, in the rows that are there and in all that `put` will bring."""
        added = [place.pixels(self.mask.shape) for place in places]
        self.left_out += added
        for place, inside in added:
            self._clear(place, inside, slice(0, len(self.mask)))

    def _clear(self, place: tuple[slice, slice], inside: NDArray[np.bool_], rows: slice) -> None:
        first, last = max(place[0].start, rows.start), min(place[0].stop, rows.stop)
        if first < last:
            covered = inside[first - place[0].start : last - place[0].start]
            self.mask[first:last, place[1]][covered] = False
            self.codes[first:last, place[1]][covered] = NEVER

    def words(self, page: ReadPage) -> list[ReadWord]:
        """Return the words that were read, and whether they are trusted."""
        bound, words = self.request.applicable.subset.bound, []
        for word in page.words:
            place, inside = box_of(word.corners, self.mask.shape)
            code = int(self.codes[place][inside].max())
            words.append(
                ReadWord(
                    box=listed_corners(word.corners.tolist()),
                    text=word.text,
                    trusted=bool(self.mask[place][inside].all()),
                    trust_level=None if code == NEVER else code * bound / CODE_STEPS,
                )
            )
        return words

    @property
    def text(self) -> dict[str, str]:
        """What a file says about its origin."""
        request, applicable = self.request, self.request.applicable
        return png_text(
            request.calibration,
            applicable.subset.guarantee,
            request.alpha,
            applicable.curve.threshold(request.alpha),
            applicable.group,
            applicable.input_class,
        )

    def files(self) -> dict[str, IO[bytes]]:
        """Return the files by name. Raises StoreUnavailable: the disk is full."""
        planes = {MASK: self.mask, TRUST: self.codes}
        return {name: spooled(write_png, plane, self.text) for name, plane in planes.items()}

    @property
    def shares(self) -> tuple[float, float]:
        """The trusted share of the opaque pixels, and the opaque share of all."""
        pixels = self.mask.size
        opaque = pixels if self.opaque is None else int(np.count_nonzero(self.opaque))
        return int(np.count_nonzero(self.mask)) / max(1, opaque), opaque / pixels

    def reduced(self, height: int, width: int) -> Self:
        """Return that of a reduced picture, whose pixels are trusted as little as any they cover.

        σ stays that of the whole picture.
        """
        opaque = self.opaque
        if opaque is not None:
            opaque = ~largest_within(~opaque, height, width)
        mask = ~largest_within(~self.mask, height, width)
        codes = largest_within(self.codes, height, width)
        return type(self)(self.request, mask, codes, opaque, self.sigma_counts)
