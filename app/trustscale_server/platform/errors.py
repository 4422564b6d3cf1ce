"""Every error that Trustscale raises on purpose.

`problems.py` maps these classes to status codes and problem documents; the command line prints
`detail` in one line.
"""

from __future__ import annotations

import re
from typing import Any


class TrustscaleError(Exception):
    """Base of all expected errors.

    detail: one sentence for the person who caused or must mend it.
    members: machine-readable facts, extra members of the problem document.
    """

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members

    def __str__(self) -> str:
        return self.detail


class TransientError(TrustscaleError):
    """A temporary error: a retry makes sense after `retry_after` seconds."""

    def __init__(self, detail: str, *, retry_after: float = 5.0, **members: Any) -> None:
        super().__init__(detail, **members)
        self.retry_after = retry_after


class BadInput(TrustscaleError):
    """The caller sent something unusable."""


class BadImage(BadInput):
    """The image is damaged, empty, too small, or has no faithful RGB form."""


class DecodeLimit(BadInput):
    """Decoding takes more seconds, memory or scans (`members["limit"]`) than allowed."""


class ImageTooLarge(BadInput):
    """The image is over a limit; `members` names the limit and the measured value."""


class UnsupportedMedia(BadInput):
    """The upload is not one of the supported image formats."""


class BadGroup(BadInput):
    """The calibration has no such group; `members["groups"]` lists its groups."""


class BadPairs(BadInput):
    """Some pairs cannot be used; `members["items"]` names each with its reason."""


class BadCalibration(BadInput):
    """A calibration file is damaged, of an unknown version, or contradicts itself."""


class BadRequest(BadInput):
    """A field or header of the request cannot be used."""


class TooSlow(BadInput):
    """The answer would take too long; `members` has the estimate and the alternatives."""


class NoPromise(TrustscaleError):
    """Nothing would be promised of the upload, and its call has a price, so none was made."""


class NoCalibration(TrustscaleError):
    """No calibration is active, so a mask would have no foundation."""


class CalibrationMismatch(TrustscaleError):
    """The live pipeline differs from the calibrated one, by `members["differences"]`."""


class UpscalerError(TrustscaleError):
    """The upscaler did not deliver the samples."""


class UpscalerUnavailable(UpscalerError, TransientError):
    """The upscaler cannot be reached or has no capacity now."""


class TimedOut(UpscalerUnavailable):
    """No answer within the time limit; a retry takes as long again."""


class UpscalerFailed(UpscalerError):
    """The upscaler answered with an error, or with no sample."""


class ProtocolError(UpscalerFailed):
    """The answer does not follow the protocol."""


class UpscalerRejected(UpscalerFailed):
    """The upscaler refuses this input for good."""


class DegenerateSamples(UpscalerError):
    """All samples are identical, though the input is not flat: a cache or a fixed seed."""


class Overloaded(TransientError):
    """All slots and waiting places of this service are taken."""


class RateLimited(Overloaded):
    """This client has used up its requests or pixels of the minute."""


class Unauthorized(TrustscaleError):
    """No valid key was sent."""


class Forbidden(TrustscaleError):
    """The key is valid but does not allow this."""


class NotFound(TrustscaleError):
    """The named thing does not exist, or no longer exists."""


class Conflict(TrustscaleError):
    """The request contradicts the present state."""


class NoDirectUploads(TrustscaleError):
    """There is no object store for direct uploads, or it is not public."""


class Superseded(Conflict):
    """The document to be replaced has changed since it was read."""


class ConfigError(TrustscaleError):
    """A setting is wrong; the program does not start."""


_MAX_REASON = 200
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PATH = re.compile(r"""(?<![\w:/.])(['"]?)/[^\s'"]+/[^\s'"]*\1""")


def reason_of(error: Exception) -> str:
    """Return the first line of a foreign error, without its full stop, shortened.

    Parsers may repeat all the bytes that they could not read, and reveal addresses and paths.
    """
    text = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    text = _PATH.sub("the file", _ADDRESS.sub("", text))
    if len(text) > _MAX_REASON:
        text = f"{text[:_MAX_REASON].rstrip('.')}…"
    return text or type(error).__name__


def shortened(name: str) -> str:
    """Return a foreign name, quoted, at most 80 letters."""
    return repr(name if len(name) <= 80 else f"{name[:79]}…")


def duration(seconds: float) -> str:
    """Return a time in hours, minutes or seconds."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
