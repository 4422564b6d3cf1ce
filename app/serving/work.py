"""A request: what is asked for, what is needed to answer it, and what is found on the way."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.calibration.active import Calibrations
from app.calibration.record import Calibration
from app.canary.watch import CanaryWatch
from app.images.decode import Decoded, Limits
from app.images.decoders import File
from app.images.facts import Facts
from app.sampling.draw import OnProgress
from app.sampling.throughput import Throughput
from app.serving.admission import Slots
from app.serving.answer import ChosenForm, Result
from app.serving.credentials import Credentials, Parent
from app.serving.footprint import footprint
from app.serving.subject import Subject
from app.stores.base import ResultStore
from app.upscalers.base import RGB, Upscaler, named


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """The fields of a request, not yet checked; None means the default.

    client: who asks, as a digest; only the monitor reads it.
    keep_s: how long the result is kept, so that the request may be repeated.
    """

    upscaler: str | None = None
    alpha: float | None = None
    seed: int | None = None
    background: str | None = None
    client: str | None = None
    group: str | None = None
    format: str = "png"
    quality: int | None = None
    metadata: str = "none"
    fit: int | None = None
    guarantee: str | None = None
    keep_s: float | None = None


@dataclass(slots=True)
class Means:
    """What the steps work with."""

    upscalers: Mapping[str, Upscaler]
    default: str
    calibrations: Calibrations
    results: ResultStore
    slots: Slots
    limits: Limits
    timeout_s: float
    canaries: CanaryWatch | None = None
    # Of what is waited for by no client.
    job_timeout_s: float = field(default=86400.0, kw_only=True)
    throughput: Throughput = field(default_factory=Throughput, kw_only=True)
    credentials: Credentials | None = field(default=None, kw_only=True)
    # Uploads that are decoded or wait for it; the decoders take them in turn.
    decoding: Slots = field(init=False)
    # Masks and overlays of stored results for another α; they never wait for generations.
    drawing: Slots = field(init=False)

    def __post_init__(self) -> None:
        """Give short work places of its own."""
        self.decoding = self.slots.for_uploads()
        self.drawing = self.slots.for_short_work()

    def upscaler(self, name: str | None) -> Upscaler:
        """The named upscaler, or the default one.

        Raises:
            NotFound: no upscaler has this name.
        """
        return named(self.upscalers, name, self.default)


@dataclass(slots=True)
class Work:
    """A request on its way; the fields below the line are filled in by the steps."""

    means: Means
    request: UpscaleRequest
    upload: bytes | Callable[[], Awaitable[File]]
    patient: bool = False
    as_job: bool = False
    on_progress: OnProgress | None = None
    on_first: Callable[[RGB], None] | None = None
    warnings: list[str] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    # ----
    upscaler: Upscaler = field(init=False)
    calibration: Calibration = field(init=False)
    input_facts: Facts = field(init=False)
    subject: Subject = field(init=False)
    alpha: float = field(init=False)
    seed: int = field(init=False)
    form: ChosenForm = field(init=False)
    image: Decoded = field(init=False)
    digest: int = field(init=False)
    result_id: str = field(init=False)
    sigma: NDArray[np.float32] = field(init=False)
    mean_log_sigma: float = field(init=False)
    picture: Image.Image = field(init=False)
    parent: Parent = field(init=False)  # where the picture is signed
    mask: NDArray[np.bool_] = field(init=False)
    trusted: float = field(init=False)
    trust: NDArray[np.uint16] = field(init=False)
    files: dict[str, bytes] = field(init=False)
    result: Result = field(init=False)

    @property
    def group(self) -> str | None:
        """The group of images that the request named."""
        return self.request.group or None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upload."""
        height, width, _ = self.image.rgb.shape
        return height, width

    @property
    def has_begun(self) -> bool:
        """Whether it has its slot: from then on samples are paid for."""
        return "wait" in self.timings_ms

    @property
    def deadline_s(self) -> float:
        """What its samples may take."""
        return self.means.job_timeout_s if self.as_job else self.means.timeout_s

    @property
    def estimate_s(self) -> float | None:
        """What its samples take at the pace that was measured; None: nothing is known."""
        height, width = self.size
        samples = self.calibration.pipeline.samples
        return self.means.throughput.estimate(self.upscaler, height * width, samples)

    @property
    def footprint(self) -> int:
        """Bytes that making the answer holds at most."""
        return self.footprint_of(*self.size)

    def footprint_of(self, height: int, width: int) -> int:
        """The same for an upload of another size."""
        pipeline, capabilities = self.calibration.pipeline, self.upscaler.capabilities
        return footprint(height, width, pipeline, capabilities, self.form.bytes_per_pixel)

    @property
    def facts(self) -> dict[str, str | int]:
        """What a trace says of it."""
        height, width = self.size
        return {
            "trustscale.upscaler": self.upscaler.name,
            "trustscale.calibration": self.calibration.id,
            "trustscale.samples": self.calibration.pipeline.samples,
            "trustscale.width": width,
            "trustscale.height": height,
        }

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long the body took."""
        started = time.perf_counter()
        yield
        self.timings_ms[name] = 1e3 * (time.perf_counter() - started)
