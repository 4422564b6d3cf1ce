"""The protocol that local and remote upscalers share, and their inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final, Literal, Protocol

import numpy as np

from trustscale_server.images.encoding.png import to_png
from trustscale_server.kinds.features import InputFeatures
from trustscale_server.pixels.lab import Pixels, check_rgb, to_8_bit, to_16_bit
from trustscale_server.platform.errors import NotFound, UpscalerRejected
from trustscale_server.upscalers.permit import MemoryPermit

RGB = Pixels
"""[h, w, 3], C-contiguous: sRGB of 8 bits, or data of 16 bits in units of their stretch."""

SUPPLIED: Final = "supplied"
"""The kind of an upscaler whose pictures come with the uploads."""

AUTO: Final = "auto"
"""Reserved name: the class of an upload chooses the upscaler."""

Picture = Literal["model", "safe", "plain"]
"""What answers: the model's picture, its safe copy, or the upload enlarged by no model."""

MAX_REQUEST_SEED = 2**63 - 1


def image_digest(rgb: RGB) -> str:
    """Return the SHA-256, in hex, of the size and pixels of an image."""
    digest = hashlib.sha256(f"{rgb.shape[0]}x{rgb.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


class Source:
    """The decoded low-resolution input of one request, shared by its M generation calls.

    It hashes by identity, so it can be a key of uploads.

    Attributes:
        rgb: its pixels.
        features: of the upload, for a score that looks at them.
        enlarged: the picture that somebody made of it, uint8 [H, W, 3].
    """

    def __init__(
        self, rgb: RGB, features: InputFeatures | None = None, enlarged: RGB | None = None
    ) -> None:
        check_rgb(rgb)
        self.rgb = np.ascontiguousarray(rgb)
        self.features = features
        self.enlarged = enlarged

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @cached_property
    def png(self) -> bytes:
        """The image as a PNG file of 8 bits."""
        return to_png(self.as_8_bit.rgb)

    @property
    def is_16_bit(self) -> bool:
        return self.rgb.dtype == np.uint16

    @property
    def as_8_bit(self) -> Source:
        return self._of_8_bits or self

    @cached_property
    def _of_8_bits(self) -> Source | None:
        # Kept within itself, this source would live until garbage is collected.
        return Source(to_8_bit(self.rgb), self.features, self.enlarged) if self.is_16_bit else None

    @cached_property
    def is_grey(self) -> bool:
        """Whether its three channels are one."""
        return all(np.array_equal(self.rgb[..., 0], self.rgb[..., k]) for k in (1, 2))

    def like(self, answer: RGB) -> RGB:
        """Return an answer as deep as the image, and grey if the image is."""
        pixels = to_16_bit(answer) if self.is_16_bit else answer
        if self.is_grey:
            mean = (pixels.sum(axis=2, dtype=np.uint32) + 1) // 3
            pixels = np.repeat(mean.astype(pixels.dtype)[..., np.newaxis], 3, axis=2)
        return pixels

    @cached_property
    def digest(self) -> str:
        return image_digest(self.rgb)

    @property
    def is_flat(self) -> bool:
        return bool((self.rgb == self.rgb[0, 0]).all())

    def raise_if_larger(self, max_input_pixels: int | None, upscaler: str) -> None:
        """Raise UpscalerRejected if the image has more pixels than an upscaler takes."""
        pixels = self.height * self.width
        if max_input_pixels is not None and pixels > max_input_pixels:
            raise UpscalerRejected(
                f"The image has {pixels:,} pixels; {upscaler!r} takes at most "
                f"{max_input_pixels:,}.",
                limit="max_input_pixels",
                maximum=max_input_pixels,
            )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an upscaler can do.

    seeds: the same seed gives the same bytes.
    samples_per_call: the most seeds of one `generate` call.
    machines: over which the calls of a request are spread.
    concurrency: calls in flight, over all requests of this process.
    max_samples: the number of distinct samples; None: no limit.
    max_input_pixels: the largest h·w.
    lossless: samples arrive without lossy compression.
    by_tiles: it runs in this process, so the time of one tile predicts that of all.
    takes_16_bit: it takes images of 16 bits and answers in 16 bits; else it is given 8.
    align_colours: its samples may be given the colours of the input.
    picture: what answers; its samples are the model's in any case.
    """

    seeds: bool = True
    samples_per_call: int = 1
    machines: int = 1
    concurrency: int = 1
    max_samples: int | None = None
    max_input_pixels: int | None = None
    lossless: bool = True
    by_tiles: bool = False
    takes_16_bit: bool = False
    align_colours: bool = True
    picture: Picture = "model"


class Upscaler(Protocol):
    """An opaque image-to-image model μ.

    `fingerprint` identifies what produces the samples: adapter, model, version or weight hash, and
    every parameter that changes the output. Remote upscalers learn `scale` and `fingerprint` in
    `probe`; before it the properties raise `UpscalerUnavailable`.
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
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate one sample per seed, in order, each [k·h, k·w, 3] and as deep as the source.

        The call takes `permit` before it decodes samples, and the caller gives it back. Cancelling
        the call abandons or cancels the work.

        Raises:
            UpscalerUnavailable: unreachable or busy; the same call may succeed later.
            UpscalerRejected: this input can never succeed.
            UpscalerFailed: an answer that is not a sample.
        """
        ...

    async def probe(self) -> None:
        """Learn scale and fingerprint; raise UpscalerUnavailable unless it can serve."""
        ...

    async def close(self) -> None: ...


class Wrapped:
    """Passes everything but generation to the upscaler inside."""

    def __init__(self, inner: Upscaler) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def scale(self) -> int:
        return self.inner.scale

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @property
    def settings(self) -> Mapping[str, object]:
        """What its fingerprint was made of, if it says so."""
        settings: Mapping[str, object] = getattr(self.inner, "settings", {})
        return settings

    async def probe(self) -> None:
        await self.inner.probe()

    async def close(self) -> None:
        await self.inner.close()


def fingerprint_of(settings: object) -> str:
    """Return the SHA-256 over all settings that distinguish what produces samples, as JSON."""
    canonical = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def stated_of(upscaler: Upscaler) -> str | None:
    """Return what enlarges the pictures, as the owner of a supplied upscaler states it."""
    stated: str | None = getattr(upscaler, "stated", None)
    return stated


def settings_of(upscaler: Upscaler) -> dict[str, str]:
    """Return a digest of each setting of the fingerprint; empty if the upscaler has none.

    Calibrations keep them, so that an error can name the changed setting without its value, which
    may be private.
    """
    settings: Mapping[str, object] = getattr(upscaler, "settings", {})
    return _digests(settings)


def _digests(settings: Mapping[str, object], above: str = "") -> dict[str, str]:
    """Digests by name; settings inside tables have dotted names."""
    digests: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            digests |= _digests(value, f"{above}{name}.")
        else:
            text = json.dumps(value, sort_keys=True, default=str)
            digests[above + name] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return digests


def named(upscalers: Mapping[str, Upscaler], name: str | None, default: str) -> Upscaler:
    """Return the upscaler of this name, or the default one without a name. Raises NotFound."""
    chosen = name or default
    if chosen not in upscalers:
        raise NotFound(f"No upscaler is called {chosen!r}; there are: {', '.join(upscalers)}.")
    return upscalers[chosen]


def routed(routing: Mapping[str, str], input_class: str) -> str:
    """Return the upscaler of the first pattern of the routing of `auto` that a class matches."""
    return next(name for pattern, name in routing.items() if fnmatchcase(input_class, pattern))
