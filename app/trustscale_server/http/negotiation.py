"""Which answer a request prefers: `Accept`, `Prefer`, and the format of a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from trustscale_server.images.encode import PICTURE_FORMATS, FormatName
from trustscale_server.platform.errors import BadRequest
from trustscale_server.serving.request import UpscaleOptions

JSON, ZIP, ANY_IMAGE = "application/json", "application/zip", "image/*"
FORM_OF_TYPE: Final[Mapping[str, FormatName]] = {
    kind.media_type: name for name, kind in reversed([*PICTURE_FORMATS.items()])
}
"""The format that an image type in `Accept` stands for; TIFF without georeference for its type."""


def prefers(preference: str, headers: Sequence[str]) -> bool:
    """Return whether a preference is among those of `Prefer` headers (RFC 7240)."""
    return preference in _names(",".join(headers))


def negotiate(accept: str) -> str:
    """Return the media type of the answer: of ours the one that `Accept` wants most, else JSON.

    Of equal weights (RFC 9110, 12.4.2) the first named one counts.

    Raises:
        BadRequest: it accepts none.
    """
    weights = _weights(accept or "*/*")
    possible = [kind for kind in (JSON, ZIP, *FORM_OF_TYPE) if weights.get(kind) != 0]
    acceptable = {kind: weights[kind] for kind in weights if kind in {*possible, ANY_IMAGE}}
    if possible:
        others = max(weights.get("*/*", 0), weights.get("application/*", 0))
        acceptable.setdefault(possible[0], others)
    best = max(acceptable, key=acceptable.__getitem__, default=None)
    if best is None or not acceptable[best]:
        raise BadRequest(
            f"Accept: {accept[:80]!r} allows none of {JSON}, {ZIP}, {', '.join(FORM_OF_TYPE)}."
        )
    return best


def format_of(media_type: str, form: UpscaleOptions) -> dict[str, FormatName]:
    """The field `format` that an image type stands for.

    Raises:
        BadRequest: the form names a format of another type.
    """
    if media_type not in FORM_OF_TYPE:
        return {}
    if "format" not in form.model_fields_set:
        return {"format": FORM_OF_TYPE[media_type]}
    if PICTURE_FORMATS[form.format].media_type != media_type:
        raise BadRequest(f"Accept: {media_type} and format={form.format} name different formats.")
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
