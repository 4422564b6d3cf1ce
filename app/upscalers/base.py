"""The protocol that local and remote upscalers share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from app.conformal.lab import Pixels, check_rgb
from app.errors import NotFound
from app.images.depth import deep, shallow
from app.images.encode import png_rgb
from app.images.facts import Facts
from app.upscalers.turns import Turn

RGB = Pixels
"""[h, w, 3], C-contiguous: sRGB of 8 bits, or data of 16 bits in units of their stretch."""


def image_digest(rgb: RGB) -> str:
    """SHA-256, hexadecimal, of the size and pixels of an image, whatever its file format."""
    digest = hashlib.sha256(f"{rgb.shape[0]}x{rgb.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


class Source:
    """The decoded low-resolution input of one request, shared by its M generation calls.

    Adapters that need bytes use `png`, which is encoded at most once; adapters that upload once for
    M calls use the `Source` itself as the key (it hashes by identity and can be weakly referenced).

    `facts` are known besides the pixels, for a score that looks at them.
    """

    def __init__(self, rgb: RGB, facts: Facts | None = None) -> None:
        self.facts = facts
        check_rgb(rgb)
        self.rgb = np.ascontiguousarray(rgb)

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @cached_property
    def png(self) -> bytes:
        """The image as a lossless PNG file of 8 bits."""
        return png_rgb(self.shallow.rgb)

    @property
    def is_deep(self) -> bool:
        """Whether it has 16 bits."""
        return self.rgb.dtype == np.uint16

    @cached_property
    def shallow(self) -> Source:
        """The image in 8 bits, for upscalers that take no more."""
        return Source(shallow(self.rgb), self.facts) if self.is_deep else self

    @cached_property
    def _has_one_channel(self) -> bool:
        return all(np.array_equal(self.rgb[..., 0], self.rgb[..., k]) for k in (1, 2))

    def like(self, answer: RGB) -> RGB:
        """An answer to this image as data of its kind: of 16 bits, and one channel if it has one.

        Pictures of 8 bits stay what a model makes of them.
        """
        if not self.is_deep:
            return answer
        found = deep(answer)
        if self._has_one_channel:
            mean = (found.sum(axis=2, dtype=np.uint32) + 1) // 3
            found = np.repeat(mean.astype(np.uint16)[..., np.newaxis], 3, axis=2)
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the pixels and the shape, hexadecimal."""
        return image_digest(self.rgb)

    @property
    def is_flat(self) -> bool:
        """Whether every pixel has the same colour."""
        return bool((self.rgb == self.rgb[0, 0]).all())


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an upscaler can do; the fan-out plans its calls by it.

    seeds: the same seed gives the same bytes.
    samples_per_call: the largest number of seeds in one `generate` call.
    concurrency: calls in flight at once, over all requests of this process.
    max_samples: the number of distinct samples; None: no limit.
    max_input_pixels: the largest h·w it takes; None: no limit of its own.
    lossless: samples arrive without lossy compression.
    by_tiles: it runs in this process and takes the time of its pixels, so one tile tells its pace.
    accumulates: it may answer a call with the moments of its samples, see `Turn.moments`.
    deep: it takes images of 16 bits as they are, and answers in 16 bits; else it is given 8.
    """

    seeds: bool = True
    samples_per_call: int = 1
    concurrency: int = 1
    max_samples: int | None = None
    max_input_pixels: int | None = None
    lossless: bool = True
    by_tiles: bool = False
    accumulates: bool = False
    deep: bool = False


class Upscaler(Protocol):
    """An opaque image-to-image model μ.

    `fingerprint` identifies what produces the samples: adapter, model, version or weight hash, and
    every parameter that changes the output. Equal fingerprints mean equal distributions; a
    calibration is valid for one fingerprint only. Remote upscalers learn `scale` and `fingerprint`
    in `check`; before it the properties raise `UpscalerUnavailable`.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def scale(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: Turn | None = None
    ) -> list[RGB]:
        """One sample per seed, in the order of the seeds, each [k·h, k·w, 3] and as deep as asked.

        The call takes `turn` before it decodes samples, and the caller gives it back; None: no
        other calls compete. Never blocks the event loop. Cancelling the call abandons or cancels
        the work.

        Raises:
            UpscalerUnavailable: unreachable or busy; the same call may succeed later.
            UpscalerRejected: this input can never succeed.
            UpscalerFailed: an answer that is not a sample.
        """
        ...

    async def check(self) -> None:
        """Return when the upscaler can serve, after learning its scale and fingerprint.

        Raises:
            UpscalerUnavailable: it cannot.
        """
        ...

    async def close(self) -> None:
        """Release connections and threads."""
        ...


class Witness(Protocol):
    """Another network's answer to the same input, which samples are compared with."""

    def fingerprint(self, scale: int) -> str:
        """Identity of what answers at this scale."""
        ...

    async def answer(self, source: Source, scale: int) -> RGB:
        """[scale·h, scale·w, 3]; the same input always has the same answer."""
        ...


def witness_of(upscaler: Upscaler) -> Witness | None:
    """The witness of an upscaler; None: it has none, or would be its own."""
    witness: Witness | None = getattr(upscaler, "witness", None)
    if witness is None or witness.fingerprint(upscaler.scale) == upscaler.fingerprint:
        return None
    return witness


def fingerprint_of(facts: object) -> str:
    """The fingerprint of what produces samples, from all facts that distinguish it, as JSON."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def digests_of(facts: Mapping[str, object], above: str = "") -> dict[str, str]:
    """A digest of each fact that a fingerprint covers; facts inside tables have dotted names.

    Calibrations keep them, so that an error can name the setting that changed. Digests, because
    values may be private addresses or prompts.
    """
    found: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            found |= digests_of(value, f"{above}{name}.")
        else:
            text = json.dumps(value, sort_keys=True, default=str)
            found[above + name] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return found


def settings_of(upscaler: Upscaler) -> dict[str, str]:
    """The digests of an upscaler's settings; empty if it reports none."""
    facts: Mapping[str, object] = getattr(upscaler, "facts", {})
    return digests_of(facts)


AUTO: Final = "auto"
"""Reserved name: the class of an upload chooses the upscaler."""


def named(upscalers: Mapping[str, Upscaler], name: str | None, default: str) -> Upscaler:
    """The upscaler of this name; None or "" means the default.

    Raises:
        NotFound: no upscaler has this name.
    """
    wanted = name or default
    if wanted not in upscalers:
        raise NotFound(f"No upscaler is called {wanted!r}; there are: {', '.join(upscalers)}.")
    return upscalers[wanted]
