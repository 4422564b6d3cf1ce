"""How a request is answered: two lists of steps, one before anything is generated, one after.

Each step reads what those before it have found in the `Work` and adds its own. The first list
checks all that can be checked for nothing; the second runs in a slot (`admission.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeAlias, cast, get_args

import numpy as np
from PIL import Image

from app.errors import BadRequest, ImageTooLarge, TooSlow
from app.images.decode import KeepMetadata, decode
from app.images.decoders import File, decoding, size_of
from app.images.encode import FORMS, Pages, picture, png_grey16, png_mask
from app.images.facts import look_at
from app.sampling.measure import measure
from app.sampling.pipeline import guard, learn
from app.serving.answer import (
    INPUT,
    MASK,
    TRUST,
    Links,
    Result,
    check_alpha,
    form_of,
    png_text,
    threshold_json,
)
from app.serving.credentials import UNSIGNED, parent_of
from app.serving.footprint import fitting
from app.serving.promise import guarantee, warnings_of
from app.serving.subject import Subject
from app.serving.work import Work
from app.stores.base import Blob
from app.system import to_the_end
from app.telemetry.tracing import span
from app.upscalers.base import Source
from app.upscalers.seeds import MAX_REQUEST_SEED

# Of the deadline, what the estimate of a reduced image takes.
_IN_TIME: Final = 0.8

Step: TypeAlias = Callable[[Work], Awaitable[None]]


async def find_upscaler(work: Work) -> None:
    """The one that was asked for, or the default. Raises NotFound."""
    work.upscaler = work.means.upscaler(work.request.upscaler)


async def find_calibration(work: Work) -> None:
    """The active one of the upscaler. Raises NoCalibration."""
    work.calibration = await work.means.calibrations.active(work.upscaler.name)


async def compare_pipelines(work: Work) -> None:
    """Nothing is served under another pipeline. Raises CalibrationMismatch, UpscalerUnavailable."""
    await learn(work.upscaler)
    settings = work.calibration.manifest.provenance.settings
    guard(work.calibration.pipeline, work.upscaler, settings)


async def ask_canaries(work: Work) -> None:
    """Whether the model still is what it was: a warning, or CalibrationMismatch."""
    if work.means.canaries is not None:
        calibration = work.calibration.id
        work.warnings += await work.means.canaries.check(work.upscaler.name, calibration)


async def check_group(work: Work) -> None:
    """And the kind of guarantee, before the upload is read. Raises BadGroup, BadRequest."""
    work.calibration.under(work.request.guarantee).of_group(work.group)


async def choose_curve(work: Work) -> None:
    """The part of the calibration that speaks about images of this group, class and size.

    Of a class that it lacks no part speaks; all pairs are used then, and the answer says so.
    """

    def choose() -> None:
        work.input_facts = look_at(work.image.rgb, work.image.compression)
        promised = work.calibration.under(work.request.guarantee)
        height, width = (side * promised.pipeline.scale for side in work.size)
        work.subject = Subject.of(promised, work.group, work.input_facts, size=(height, width))
        _ = work.subject.part.curve  # made once, and kept

    await asyncio.to_thread(choose)


async def choose_alpha(work: Work) -> None:
    """α of the request, or of the calibration. Raises BadAlpha."""
    work.alpha = check_alpha(work.request.alpha, work.calibration.manifest.default_alpha)


async def choose_seed(work: Work) -> None:
    """The seed that was given, or a fresh one. Raises BadRequest."""
    given = work.request.seed
    work.seed = secrets.randbits(53) if given is None else given
    if not 0 <= work.seed <= MAX_REQUEST_SEED:
        raise BadRequest(f"seed must be between 0 and {MAX_REQUEST_SEED}.")


async def choose_form(work: Work) -> None:
    """The form of the picture, and what it keeps of the upload's metadata. Raises BadRequest."""
    work.form = form_of(work.request.format, work.request.quality)
    if work.request.metadata not in get_args(KeepMetadata):
        raise BadRequest(f"metadata must be one of {', '.join(get_args(KeepMetadata))}.")
    if work.request.fit is not None and work.request.fit < 1:
        raise BadRequest("fit must be a number of pixels of at least 1.")


async def read_image(work: Work) -> None:
    """Pixels of the upload. Raises BadInput, Overloaded."""
    async with work.means.decoding.slot(patient=work.patient):
        file = work.upload if isinstance(work.upload, bytes) else await work.upload()
        with span("decode", {"trustscale.upload_bytes": size_of(file)}):
            try:
                work.image = await decoding(
                    decode,
                    file,
                    work.means.limits,
                    background=work.request.background or None,
                    with_alpha=True,
                    keep=cast("KeepMetadata", work.request.metadata),
                    fit=work.request.fit,
                )
            except ImageTooLarge as error:
                if error.members["limit"] != "max_pixels" or "actual" not in error.members:
                    raise
                raise _with_cost(error, work, error.members["actual"]) from None
        work.digest = await to_the_end(digest_of, file)
        work.warnings[:0] = work.image.notes
        if work.means.credentials:
            work.parent, notes = await decoding(
                parent_of,
                file,
                work.image.format,
                with_credentials=work.request.metadata == "keep-gps",
            )
            work.warnings += notes
    work.upload = b""


async def check_form(work: Work) -> None:
    """Whether the form can hold the picture. Raises BadRequest."""
    longest = max(work.size) * work.calibration.pipeline.scale
    work.form.check(longest, transparent=work.image.alpha is not None)
    work.warnings += work.form.warnings()
    if work.means.credentials and work.form.name in UNSIGNED:
        work.warnings.append(f"A picture of format={work.form.name} has no content credentials.")
    if work.image.alpha is not None:
        work.warnings.append(
            "The image has transparent pixels: transparency was enlarged apart from the colours, "
            "and only pixels that are wholly opaque can be trusted."
        )


async def check_size(work: Work) -> None:
    """What the upscaler takes, and what fits into memory. Raises ImageTooLarge."""
    height, width = work.size
    most = work.upscaler.capabilities.max_input_pixels
    if most is not None and height * width > most:
        raise ImageTooLarge(
            f"The image is {width}×{height}; the upscaler {work.upscaler.name!r} takes at most "
            f"{most:,} pixels.",
            limit="upscaler_max_input_pixels",
            maximum=most,
            actual=height * width,
        )
    try:
        work.means.slots.check_size(work.footprint)
    except ImageTooLarge as error:
        raise _with_way_out(error, work, height, width) from None


async def check_time(work: Work) -> None:
    """Whether it can be done before its deadline. Raises TooSlow."""
    estimate, deadline = work.estimate_s, work.deadline_s
    if estimate is not None and estimate > deadline:
        raise _too_slow(work, estimate, deadline)


async def generate(work: Work) -> None:
    """Ŷ and σ from M samples. Raises UpscalerError, DegenerateSamples."""
    measured = await measure(
        work.upscaler,
        Source(work.image.rgb, work.input_facts),
        work.calibration.pipeline,
        work.seed,
        deadline=work.deadline_s,
        on_progress=work.on_progress,
        on_first=work.on_first,
    )
    work.sigma, work.mean_log_sigma = measured.sigma, measured.mean_log_sigma
    work.picture = await to_the_end(Image.fromarray, measured.prediction)
    work.timings_ms |= measured.timings_ms
    pixels, samples = math.prod(work.size), work.calibration.pipeline.samples
    seconds = work.timings_ms["samples"] / 1e3
    work.means.throughput.note(work.upscaler, pixels, samples, seconds)


async def enlarge_alpha(work: Work) -> None:
    """Transparency by interpolation; what is not opaque has no σ, so it is trusted at no α."""
    alpha = work.image.alpha
    if alpha is None:
        return

    def enlarge() -> None:
        large = Image.fromarray(alpha).resize(work.picture.size, Image.Resampling.BICUBIC)
        work.picture.putalpha(large)
        work.sigma[np.asarray(large) < 255] = np.inf

    await to_the_end(enlarge)


async def mask(work: Work) -> None:
    """The trust mask at α, and the trust level for every other α."""
    curve = work.subject.part.curve

    def both() -> None:
        work.mask = curve.mask(work.sigma, work.alpha)
        work.trusted = float(np.count_nonzero(work.mask)) / work.mask.size
        work.trust = curve.trust_code(work.sigma)

    with work.timed("mask"), span("mask", {"trustscale.alpha": work.alpha}):
        await to_the_end(both)


async def encode(work: Work) -> None:
    """The files of the answer; the two large ones side by side."""
    subject = work.subject
    text = png_text(work.calibration, subject.part, work.alpha, work.group, subject.input_class)

    def image() -> bytes:
        return picture(
            work.picture,
            work.form.name,
            quality=work.form.quality,
            text=text,
            metadata=work.image.metadata.enlarged(work.calibration.pipeline.scale),
            pages=Pages(work.mask, work.trust),
        )

    def others() -> dict[str, bytes]:
        return {
            MASK: png_mask(work.mask, text),
            TRUST: png_grey16(work.trust, text),
        }

    def files() -> dict[str, bytes]:
        with ThreadPoolExecutor(1, "trustscale-encode") as beside:
            rest = beside.submit(others)
            return {work.form.file: image(), **rest.result()}

    with work.timed("encode"), span("encode"):
        work.files = await to_the_end(files)
    del work.picture, work.mask, work.trust


async def put_into_words(work: Work) -> None:
    """The document of the answer: the promise, and what a careful reader must know."""
    work.result = await to_the_end(_document, work)


async def sign(work: Work) -> None:
    """Content credentials of the picture, where the operator has a certificate."""
    credentials, name = work.means.credentials, work.form.name
    if credentials is None or name in UNSIGNED:
        return
    told = work.result.model_dump(mode="json", include=_SIGNED)
    with work.timed("sign"), span("sign"):
        work.files[work.form.file] = await to_the_end(
            credentials.sign,
            work.files[work.form.file],
            FORMS[name].media_type,
            upload=work.parent,
            mask=work.files[MASK],
            promise={**told, "fingerprint": work.calibration.pipeline.fingerprint},
        )


async def store(work: Work) -> None:
    """Keep the answer. It still is in its slot: what a slow store has not taken is memory, too."""
    with span("store"):
        document = work.result.model_dump_json().encode()
        files: dict[str, Blob] = {**work.files, INPUT: work.digest.to_bytes(8, "little")}
        await work.means.results.put(work.result_id, document, files, ttl_s=work.request.keep_s)
    del work.sigma


# Of the answer, what its picture's credentials repeat.
_SIGNED: Final = {
    "id", "upscaler", "calibration", "group", "input_class", "alpha", "threshold",
    "trusted_fraction", "samples", "seed", "guarantee", "warnings",
}  # fmt: skip

PREPARE: Final[tuple[Step, ...]] = (
    find_upscaler,
    find_calibration,
    compare_pipelines,
    ask_canaries,
    check_group,
    choose_alpha,
    choose_seed,
    choose_form,
    read_image,
    check_form,
    check_size,
    check_time,
    choose_curve,
)
ANSWER: Final[tuple[Step, ...]] = (
    generate,
    enlarge_alpha,
    mask,
    encode,
    put_into_words,
    sign,
    store,
)


def _with_cost(error: ImageTooLarge, work: Work, pixels: int) -> ImageTooLarge:
    """The error, saying what the answer to an input of so many pixels would cost here."""
    pipeline = work.calibration.pipeline
    cost = work.footprint_of(pixels, 1)
    error.members["bytes"] = cost
    told = f" Its answer would take about {cost / 1e9:.1f} GB of memory"
    seconds = work.means.throughput.estimate(work.upscaler, pixels, pipeline.samples)
    if seconds is not None:
        error.members["seconds"] = round(seconds, 1)
        told += f" and about {duration(seconds)}"
    detail = f"{error.detail}{told} (settings max_input_pixels, max_in_flight_bytes)."
    return ImageTooLarge(detail, **error.members)


def _with_way_out(error: ImageTooLarge, work: Work, height: int, width: int) -> ImageTooLarge:
    """The error of too little memory, with its cost, and the size that there is room for."""
    longest = fitting(height, width, work.footprint, error.members["maximum"])
    detail = f"{error.detail} With fit={longest} it is reduced to that longest side first."
    return _with_cost(ImageTooLarge(detail, **error.members), work, height * width)


def _too_slow(work: Work, estimate: float, deadline: float) -> TooSlow:
    """The error of too little time, with the ways out."""
    height, width = work.size
    longest = int(max(height, width) * math.sqrt(_IN_TIME * deadline / estimate))
    ways, members = [f"fit={longest}, which reduces the image to that longest side first"], {}
    if not work.as_job:
        ways.insert(0, "Prefer: respond-async, which makes it as a job")
        members["prefer"] = "respond-async"
    return TooSlow(
        f"The answer to {width}×{height} pixels would take about {duration(estimate)}, and may "
        f"take {duration(deadline)}. Send {', or '.join(ways)}.",
        estimate=round(estimate, 1),
        deadline=deadline,
        fit=longest,
        **members,
    )


def duration(seconds: float) -> str:
    """A time as people say it."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _document(work: Work) -> Result:
    calibration, part, alpha = work.calibration, work.subject.part, work.alpha
    height, width = work.sigma.shape
    promise = guarantee(work.subject, alpha)
    typicality = part.typicality(work.mean_log_sigma, work.input_facts)
    base = f"/v1/results/{work.result_id}"
    return Result(
        id=work.result_id,
        upscaler=work.upscaler.name,
        calibration=calibration.id,
        group=work.group,
        input_class=work.subject.document,
        scale=calibration.pipeline.scale,
        width=width,
        height=height,
        alpha=alpha,
        threshold=threshold_json(part.curve.threshold(alpha)),
        trusted_fraction=work.trusted,
        samples=calibration.pipeline.samples,
        seed=work.seed,
        prediction=calibration.pipeline.prediction,
        format=work.form.name,
        quality=work.form.quality,
        guarantee=promise,
        typicality=typicality,
        unusual=typicality <= part.unusual,
        warnings=warnings_of(
            work.subject,
            alpha,
            trusted=work.trusted,
            typicality=typicality,
            notes=work.warnings,
            lossless=work.upscaler.capabilities.lossless,
        ),
        timings_ms=work.timings_ms,
        links=Links(
            self=base,
            image=f"{base}/{work.form.file}",
            mask=f"{base}/{MASK}",
            trust=f"{base}/{TRUST}",
            overlay=f"{base}/overlay.png",
        ),
    )


def digest_of(file: File) -> int:
    """A number below 2^64 that is the same for equal inputs."""
    opened = io.BytesIO(file) if isinstance(file, bytes) else file
    opened.seek(0)
    digest = hashlib.blake2b(digest_size=8)
    for piece in iter(partial(opened.read, 2**20), b""):
        digest.update(piece)
    return int.from_bytes(digest.digest(), "little")
