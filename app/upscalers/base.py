"""The protocol that local and remote upscalers share; seeds, and the symmetries that they choose.

A generative model takes a sample seed as it is. A deterministic model f has only one answer, so its
samples are `undo(f(apply(x, g)), g)` with g = seed % 96, drawn *without* replacement from a group
that leaves the task unchanged: an ideal upscaler gives the same image for every g, and where a real
one does not, it is undecided. Elements are numbered

    element = d + 8 * c        d in 0..7: the dihedral group of the square
                               c in 0..11: channel permutation x intensity inversion

with d = quarter turns + 4 * mirror and c = permutation + 6 * inversion. Element 0 is the identity,
and elements 0..7 are the geometric self-ensemble of Timofte et al., "Seven ways to improve
example-based single image super resolution", CVPR 2016, section 3.5. None
interpolates. Geometry, permutation and inversion act on different axes, so they commute.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from trustscale_server.conformal.fidelity import Pixels, check_rgb, to_8_bit, to_16_bit
from trustscale_server.errors import NotFound
from trustscale_server.images.description import InputFeatures
from trustscale_server.images.encode import to_png

RGB = Pixels
"""[h, w, 3], C-contiguous: sRGB of 8 bits, or data of 16 bits in units of their stretch."""

AUTO: Final = "auto"
"""Reserved name: the class of an upload chooses the upscaler."""

DIHEDRAL = 8
GROUP_ORDER = 96
"""Elements of dihedral x channel permutation x intensity inversion: 8 · 6 · 2."""

MAX_REQUEST_SEED = 2**63 - 1
_LARGEST = 2**31 - 1  # of every known API

Image = TypeVar("Image", NDArray[np.uint8 | np.uint16], NDArray[np.float32])
"""An image [h, w, 3]: uint8, uint16, or float32 in [0, 1]."""

_DTYPES = (np.uint8, np.uint16, np.float32)
# In lexicographic order, the identity first; the numbering is part of every fingerprint.
_PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def image_digest(rgb: RGB) -> str:
    """Return the SHA-256, in hex, of the size and pixels of an image."""
    digest = hashlib.sha256(f"{rgb.shape[0]}x{rgb.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


class Source:
    """The decoded low-resolution input of one request, shared by its M generation calls.

    It hashes by identity, so it can be a key of uploads. `facts` are known besides the pixels, for
    a score that looks at them.
    """

    def __init__(self, rgb: RGB, facts: InputFeatures | None = None) -> None:
        check_rgb(rgb)
        self.rgb = np.ascontiguousarray(rgb)
        self.facts = facts

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
        return Source(to_8_bit(self.rgb), self.facts) if self.is_16_bit else None

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


class MemoryPermit:
    """One call's claim on the memory of its request, and its limits.

    Decoded samples are large (48 MiB for 4096 × 4096), so the M calls of a request share a lock: a
    call holds it from decoding its answer until its samples are accumulated.

    Args:
        deadline: of the request, on the running loop's clock.
        patience_s: how long a call waits for an upscaler that is away.
        on_part: called in the loop, with the number of parts, after each part of the call.

    Attributes:
        most_bytes: limit of an answer that holds samples; None: the configured one.
    """

    def __init__(
        self,
        shared: asyncio.Lock | None = None,
        *,
        deadline: float | None = None,
        patience_s: float = 0.0,
        on_part: Callable[[int], None] | None = None,
    ) -> None:
        self.most_bytes: int | None = None
        self.patience_s = patience_s
        self._on_part = on_part
        self._deadline = deadline
        self._shared = shared or asyncio.Lock()
        self._claim = asyncio.Lock()
        self._held = False
        self._clock: asyncio.Timeout | None = None

    def remaining_s(self) -> float:
        """Return seconds until the deadline; may be infinite."""
        if self._deadline is None:
            return math.inf
        return self._deadline - asyncio.get_running_loop().time()

    def counted(self, tasks: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
        """Return the parts of a call, to be run in threads, each with its report to `on_part`."""
        on_part = self._on_part
        if on_part is None:
            return list(tasks)
        loop = asyncio.get_running_loop()

        def reporting(task: Callable[[], None]) -> None:
            task()
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(on_part, len(tasks))

        return [partial(reporting, task) for task in tasks]

    async def take(self) -> None:
        """Wait for the turn, unless this call has it."""
        async with self._claim:  # parts of a call share it
            if self._held:
                return
            with self._clock_stopped():
                await self._shared.acquire()
                self._held = True

    def give_back(self) -> None:
        """Let the next call in, if this call has the turn."""
        if self._held:
            self._held = False
            self._shared.release()

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError if the block takes longer, not counting its wait for the turn.

        Counted, that wait would end calls that have their answer, which would be paid for again.
        """
        async with asyncio.timeout(seconds) as clock:
            self._clock = clock
            try:
                yield
            finally:
                self._clock = None

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        clock = self._clock
        end = None if clock is None or clock.expired() else clock.when()
        if clock is None or end is None:
            yield
            return
        loop = asyncio.get_running_loop()
        left = end - loop.time()
        clock.reschedule(None)
        try:
            yield
        finally:
            if self._clock is clock:
                clock.reschedule(loop.time() + left)


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


class Upscaler(Protocol):
    """An opaque image-to-image model μ.

    `fingerprint` identifies what produces the samples: adapter, model, version or weight hash, and
    every parameter that changes the output. Remote upscalers learn `scale` and `fingerprint` in
    `check`; before it the properties raise `UpscalerUnavailable`.
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
        self, source: Source, seeds: Sequence[int], turn: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate one sample per seed, in order, each [k·h, k·w, 3] and as deep as the source.

        The call takes `turn` before it decodes samples, and the caller gives it back. Cancelling
        the call abandons or cancels the work.

        Raises:
            UpscalerUnavailable: unreachable or busy; the same call may succeed later.
            UpscalerRejected: this input can never succeed.
            UpscalerFailed: an answer that is not a sample.
        """
        ...

    async def check(self) -> None:
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
    def facts(self) -> Mapping[str, object]:
        """What its fingerprint was made of, if it says so."""
        facts: Mapping[str, object] = getattr(self.inner, "facts", {})
        return facts

    async def check(self) -> None:
        await self.inner.check()

    async def close(self) -> None:
        await self.inner.close()


def fingerprint_of(facts: object) -> str:
    """Return the SHA-256 over all facts that distinguish what produces samples, as JSON."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def settings_of(upscaler: Upscaler) -> dict[str, str]:
    """Return a digest of each fact of the fingerprint; empty if the upscaler has none.

    Calibrations keep them, so that an error can name the changed setting without its value, which
    may be private.
    """
    facts: Mapping[str, object] = getattr(upscaler, "facts", {})
    return _digests(facts)


def _digests(facts: Mapping[str, object], above: str = "") -> dict[str, str]:
    """Digests by name; facts inside tables have dotted names."""
    digests: dict[str, str] = {}
    for name, value in facts.items():
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


def routed(table: Mapping[str, str], input_class: str) -> str:
    """Return the upscaler of the first pattern of the table of `auto` that a class matches."""
    return next(name for pattern, name in table.items() if fnmatchcase(input_class, pattern))


def sample_seeds(seed: int, count: int) -> list[int]:
    """Return `count` distinct sample seeds in [1, 2^31 − 1], a pure function of `seed`.

    Not 0, which several APIs read as "random". The first eight seeds have the residues 0..7 modulo
    96 in random order, the next the others in random order, so 96 seeds have distinct elements.

    Raises ValueError for `seed` outside [0, 2^63 − 1] or `count` < 1.
    """
    if not 0 <= seed <= MAX_REQUEST_SEED:
        raise ValueError(f"seed must be between 0 and 2^63 - 1, got {seed}")
    if count < 1:
        raise ValueError(f"at least one sample is needed, got {count}")
    random = np.random.Generator(np.random.PCG64(seed))
    seeds: list[int] = []
    used: set[int] = set()
    while len(seeds) < count:
        elements = np.concatenate(
            [random.permutation(DIHEDRAL), DIHEDRAL + random.permutation(GROUP_ORDER - DIHEDRAL)]
        )
        for element in elements[: count - len(seeds)]:
            candidate = 0
            while candidate == 0 or candidate in used:
                block = int(random.integers(1, _LARGEST // GROUP_ORDER))
                candidate = block * GROUP_ORDER + int(element)
            used.add(candidate)
            seeds.append(candidate)
    return seeds


def apply(image: Image, element: int) -> Image:
    """Transform the image [h, w, 3] by a group element, 0 <= element < 96.

    C-contiguous and of the same dtype; [w, h, 3] when the element turns by an odd number of
    quarters.
    """
    turns, mirror, permutation, invert = _split(image, element)
    turned = np.rot90(image, turns)
    if mirror:
        turned = turned[:, ::-1]
    return _recoloured(turned, _PERMUTATIONS[permutation], invert=invert)


def undo(image: Image, element: int) -> Image:
    """Invert `apply`, also on an upscaled image.

    Exact for integers. For float32 it is exact whenever `1 - x` is (every multiple of 2^-24, and
    everything from 0.5 up), and otherwise within 2^-25, half a unit in the last place of 1.
    """
    turns, mirror, permutation, invert = _split(image, element)
    if mirror:
        image = image[:, ::-1]
    order = _PERMUTATIONS[permutation]
    inverse = [order.index(channel) for channel in range(3)]
    return _recoloured(np.rot90(image, -turns), inverse, invert=invert)


def _split(image: Image, element: int) -> tuple[int, bool, int, bool]:
    """Quarter turns, mirror, number of the permutation and inversion, after checking both."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in _DTYPES:
        raise ValueError(
            f"expected a uint8, uint16 or float32 [h, w, 3] image, got {image.dtype} {image.shape}"
        )
    if not 0 <= element < GROUP_ORDER:
        raise ValueError(f"a group element is 0 to {GROUP_ORDER - 1}, got {element}")
    colours, geometry = divmod(element, DIHEDRAL)
    invert, permutation = divmod(colours, len(_PERMUTATIONS))
    mirror, turns = divmod(geometry, 4)
    return turns, mirror == 1, permutation, invert == 1


def _recoloured(image: Image, order: Sequence[int], *, invert: bool) -> Image:
    """The channels in another order, and white − x where inverted; C-contiguous."""
    out = np.empty_like(image, order="C")
    largest = {1: 255, 2: 65535}.get(image.itemsize, 1)
    for channel, source in enumerate(order):  # three planes, since rows of three are slow
        plane = image[..., source]
        if invert:
            np.subtract(largest, plane, out=out[..., channel])
        else:
            out[..., channel] = plane
    return out
