"""Which answer a request prefers: `Accept`, `Prefer`, and the format of a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from trustscale_server.images.encoding.encode import PICTURE_FORMATS, FormatName
from trustscale_server.platform.errors import BadRequest
from trustscale_server.serving.request import UpscaleOptions

JSON, ZIP, ANY_IMAGE = "application/json", "application/zip", "image/*"
FORMAT_OF_TYPE: Final[Mapping[str, FormatName]] = {
    row.media_type: name for name, row in reversed([*PICTURE_FORMATS.items()])
}
"""The format that an image type in `Accept` stands for; TIFF without georeference for its type."""


def prefers(preference: str, headers: Sequence[str]) -> bool:
    """Return whether a preference is among those of `Prefer` headers (RFC 7240)."""
    return preference in _names(",".join(headers))


def negotiate(accept: str) -> str:
    """Return the media type of the answer: the one of ours that `Accept` wants most, else JSON.

    Among equal weights (RFC 9110, 12.4.2) the type that is named first counts.

    Raises:
        BadRequest: it accepts no type of ours.
    """
    weights = _weights(accept or "*/*")
    possible = [ours for ours in (JSON, ZIP, *FORMAT_OF_TYPE) if weights.get(ours) != 0]
    acceptable = {
        kind: weight for kind, weight in weights.items() if kind in {*possible, ANY_IMAGE}
    }
    if possible:
        others = max(weights.get("*/*", 0), weights.get("application/*", 0))
        acceptable.setdefault(possible[0], others)
    best = max(acceptable, key=acceptable.__getitem__, default=None)
    if best is None or not acceptable[best]:
        raise BadRequest(
            f"Accept: {accept[:80]!r} allows none of {JSON}, {ZIP}, {', '.join(FORMAT_OF_TYPE)}."
        )
    return best


def format_field(media_type: str, options: UpscaleOptions) -> dict[str, FormatName]:
    """Return the field `format` that an image type stands for, unless the form names it.

    Raises:
        BadRequest: the form names a format of another type.
    """
    if media_type not in FORMAT_OF_TYPE:
        return {}
    if "format" not in options.model_fields_set:
        return {"format": FORMAT_OF_TYPE[media_type]}
    if PICTURE_FORMATS[options.format].media_type != media_type:
        raise BadRequest(
            f"Accept: {media_type} and format={options.format} name different formats."
        )
    return {}


def _names(header: str) -> list[str]:
    """The items of a header in order, without their parameters."""
    return [re.split("[;=]", item)[0].strip().lower() for item in header.split(",")]


def _weights(header: str) -> dict[str, float]:
    """The items of a header in order, each with its weight `q`, which is 1 unless it is given."""
    weights = {}
    for item in header.split(","):
        name, *parameters = (token.strip().lower() for token in item.split(";"))
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        with suppress(ValueError):  # a weight that is no number
            weights[name] = float(values.get("q", 1))
    return weights
