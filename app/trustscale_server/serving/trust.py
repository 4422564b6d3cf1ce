"""Mask and trust levels of one answer, filled strip by strip while σ is made, and their files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import IO, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.conformal.code_table import CODE_STEPS, NEVER
from trustscale_server.conformal.review import SigmaCounts
from trustscale_server.images.drawings import OPAQUE
from trustscale_server.images.png import png_in_turns
from trustscale_server.pixels.boxes import box_of
from trustscale_server.pixels.lab import Pixels
from trustscale_server.pixels.resize import largest_within, resized, size_within
from trustscale_server.sampling.sigma.words import ReadPage
from trustscale_server.serving.admit import (
    MaskRequest,
)
from trustscale_server.serving.document import (
    MASK,
    TRUST,
    ReadWord,
)
from trustscale_server.serving.left_out import LeftOut
from trustscale_server.serving.pictures import png_text
from trustscale_server.stores.spool import spooled_in_turns

_ROWS: Final = 64  # of a whole σ that are thresholded at once


@dataclass(slots=True)
class Trust:
    """Where Ŷ is trusted at α, bool [H, W], and the codes of α(p), uint16 [H, W].

    opaque: where the picture is wholly opaque, bool [H, W]; None: everywhere.
    sigma: of the opaque pixels, before any reduction. left_out: places that are trusted at no α.
    """

    request: MaskRequest
    mask: NDArray[np.bool_]
    codes: NDArray[np.uint16]
    opaque: NDArray[np.bool_] | None
    sigma: SigmaCounts = field(default_factory=SigmaCounts)
    counts: Lock = field(default_factory=Lock)
    begun: _Files | None = None
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
        with self.counts:
            self.sigma.add(judged)
        if self.opaque is not None:
            sigma[~self.opaque[rows]] = np.inf
        curve = self.request.applicable.curve
        self.mask[rows] = curve.mask(sigma, self.request.alpha)
        self.codes[rows] = curve.trust_code(sigma)
        for place, inside in self.left_out:
            self._clear(place, inside, rows)
        if self.begun is not None:
            self.begun.add(rows.start, rows.stop)

    def leave_out(self, things: Sequence[LeftOut]) -> None:
        """Trust these at no α, in rows that are there and in those that `put` will bring.

        Raises RuntimeError: files of the mask are already being written.
        """
        if things and self.begun is not None:
            raise RuntimeError("rows of the mask may already be written")
        added = [thing.pixels(self.mask.shape) for thing in things]
        self.left_out += added
        for place, inside in added:
            self._clear(place, inside, slice(0, len(self.mask)))

    def _clear(self, place: tuple[slice, slice], inside: NDArray[np.bool_], rows: slice) -> None:
        first, last = max(place[0].start, rows.start), min(place[0].stop, rows.stop)
        if first < last:
            part = inside[first - place[0].start : last - place[0].start]
            self.mask[first:last, place[1]][part] = False
            self.codes[first:last, place[1]][part] = NEVER

    def words(self, page: ReadPage) -> list[ReadWord]:
        """Return the words that were read, and whether they are trusted."""
        bound, words = self.request.applicable.subset.bound, []
        for word in page.words:
            place, inside = box_of(word.corners, self.mask.shape)
            code = int(self.codes[place][inside].max())
            words.append(
                ReadWord(
                    box=[(round(x, 1), round(y, 1)) for x, y in word.corners.tolist()],
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

    def begin(self) -> _Files:
        """Begin to write the files behind the rows of `put`."""
        self.begun = _Files({MASK: self.mask, TRUST: self.codes}, self.text)
        return self.begun

    def files(self) -> dict[str, IO[bytes]]:
        """Return the files by name, of all rows."""
        files = self.begun
        if files is None:
            files = self.begin()
            files.add(0, len(self.mask))
        return files.whole()

    @property
    def shares(self) -> tuple[float, float]:
        """The trusted share of the opaque pixels, and the opaque share of all."""
        pixels = self.mask.size
        opaque = pixels if self.opaque is None else int(np.count_nonzero(self.opaque))
        return int(np.count_nonzero(self.mask)) / max(1, opaque), opaque / pixels


class _Files:
    """PNG files of planes whose rows come from several threads, in almost any order.

    The thread that brings the next row of a file writes it, so none waits.
    """

    def __init__(self, planes: Mapping[str, NDArray[np.generic]], text: Mapping[str, str]) -> None:
        begun = {
            name: spooled_in_turns(png_in_turns, plane, text) for name, plane in planes.items()
        }
        self.made = {name: file for name, (file, _) in begun.items()}
        self._turns = [turns for _, turns in begun.values()]
        self._needed = [0] * len(begun)  # rows
        self._rows = 0  # that are there, from the top
        self._others: dict[int, int] = {}  # by their beginning, where they end
        self._adds, self._writes = Lock(), Lock()

    def add(self, top: int, bottom: int) -> None:
        """Rows are there. Raises StoreUnavailable: the disk is full."""
        with self._adds:
            self._others[top] = bottom
            while self._rows in self._others:
                self._rows = self._others.pop(self._rows)
        # Check again after each release: another thread may have found the lock held.
        while min(self._needed) <= self._rows and self._writes.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._writes.release()

    def whole(self) -> dict[str, IO[bytes]]:
        """The files by name. Raises RuntimeError: rows are missing."""
        if min(self._needed) < sys.maxsize:
            raise RuntimeError("rows of the mask or of the trust levels are missing")
        return self.made

    def _write(self) -> None:
        for place, turns in enumerate(self._turns):
            while self._needed[place] <= self._rows:
                self._needed[place] = next(turns, sys.maxsize)


def enlarged_alpha(
    alpha: NDArray[np.uint8] | None, height: int, width: int
) -> NDArray[np.uint8] | None:
    """Return the transparency of an upload at the size of the output."""
    if alpha is None:
        return None
    return np.asarray(Image.fromarray(alpha).resize((width, height), Image.Resampling.BICUBIC))


def reduced_answer(
    picture: Pixels, trust: Trust | None, longest: int
) -> tuple[Pixels, Trust | None]:
    """Reduce the picture to a longest side; a pixel is trusted as little as any it averages."""
    height, width, _ = picture.shape
    small = resized(picture, size_within((width, height), longest), Image.Resampling.BOX)
    if trust is None:
        return small, None
    height, width, _ = small.shape
    opaque = trust.opaque
    if opaque is not None:
        opaque = ~largest_within(~opaque, height, width)
    mask = ~largest_within(~trust.mask, height, width)
    codes = largest_within(trust.codes, height, width)
    return small, Trust(trust.request, mask, codes, opaque, trust.sigma)
