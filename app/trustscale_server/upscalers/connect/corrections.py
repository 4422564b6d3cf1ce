"""What an answer shows that its entry does not say: where the picture is, its scale, its host."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from trustscale_server.platform.errors import UpscalerError
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.connect import polling
from trustscale_server.upscalers.entries import Entry
from trustscale_server.upscalers.failures import NoImage, WrongSize
from trustscale_server.upscalers.outbound.guard import ForeignHost
from trustscale_server.upscalers.pointers import images
from trustscale_server.upscalers.remote.presets import merge
from trustscale_server.upscalers.remote.sample_reader import ASPECT_TOLERANCE


@dataclass(frozen=True, slots=True)
class Correction:
    """What to try after a call that failed.

    entries: that the same answer may fit.
    note: for the user.
    hint: the options that would describe the API by hand.
    """

    entries: list[Entry] = field(default_factory=list)
    note: str = ""
    hint: str = ""


def corrected(
    entry: Entry, error: UpscalerError, source: Source, polls: Sequence[str]
) -> Correction:
    """Return what an error says about the entry.

    polls: paths with `{id}` where an API with a queue may have the picture.
    """
    if isinstance(error, ForeignHost):
        hosts = [*entry.get("allowed_hosts", []), error.host]
        note = f"Results are on {error.host}, which allowed_hosts now names: is it the provider's?"
        return Correction([{**entry, "allowed_hosts": hosts}], note)
    if isinstance(error, NoImage):
        return _elsewhere(entry, error, polls)
    if isinstance(error, WrongSize) and "scale" not in entry:
        return _resized(entry, error.size, source)
    return Correction()


def _elsewhere(entry: Entry, error: NoImage, polls: Sequence[str]) -> Correction:
    if entry["kind"] != "http":
        return Correction([_pointed(entry, place) for place in images(error.document)])
    hint = polling.queue_hint(entry, error.document)
    if error.document is None:
        return Correction([merge(entry, {"answer": {"image": "body"}})], hint=hint)
    pointed = [_pointed(entry, place) for place in images(error.document)]
    later = polling.guesses(entry, error.document, polls)
    # What is not done yet holds no picture.
    entries = [*later, *pointed] if "poll" in entry else [*pointed, *later]
    return Correction(entries, hint=hint)


def _pointed(entry: Entry, place: str) -> Entry:
    if entry["kind"] == "http":
        return merge(entry, {"answer": {"pointer": place}})
    if entry["kind"] == "gradio":
        place = re.sub("/(url|path)$", "", place)
    return {**entry, "output_pointer": place}


def _resized(entry: Entry, size: tuple[int, int], source: Source) -> Correction:
    """The scale of a picture of this width and height."""
    width, height = size
    scale = max(1, round(width / source.width))
    if (width, height) == (scale * source.width, scale * source.height):
        return Correction([{**entry, "scale": scale}])
    if abs(width / height * source.height / source.width - 1) > ASPECT_TOLERANCE:
        return Correction()
    note = f"Its pictures have another size, {width}×{height} here: resize_mode = resize."
    return Correction([{**entry, "scale": scale, "resize_mode": "resize"}], note)
