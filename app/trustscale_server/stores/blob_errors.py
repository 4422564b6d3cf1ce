"""What is wrong with a blob store, without the words of its errors, which may quote credentials."""

from __future__ import annotations

import os
import re
from typing import Final

# What an error of an object store says, as a pattern, and its meaning; the first that fits counts.
_REASONS: Final = (
    (r"NoSuchBucket|ContainerNotFound", "there is no such bucket or container"),
    (r"SignatureDoesNotMatch|InvalidAccessKeyId|ExpiredToken|AuthenticationFailed",
     "it refuses the credentials"),
    (r"status code: 401", "it refuses the credentials"),
    (r"status code: 403", "the credentials may not do this"),
    (r"SlowDown|status code: (429|503)", "it is overloaded"),
    (r"Certificate|UnknownIssuer", "its TLS certificate is not accepted"),
    (r"InvalidContentType|InvalidMessage|HandshakeFailure", "it does not speak TLS"),
    (r"dns error", "its host name is not known"),
    (r"TimedOut|kind: Timeout", "no answer in time"),
    (r"kind: Connect", "no connection"),
)  # fmt: skip


def blob_failure(error: Exception, *, is_local: bool) -> str:
    """Return why a folder (`is_local`) or an object store cannot be used now."""
    message = str(error)
    if not is_local:
        for pattern, reason in _REASONS:
            if re.search(pattern, message):
                return reason
    number = error.errno if isinstance(error, OSError) else None
    if match := re.search(r"\(os error (\d+)\)", message):
        number = int(match[1])
    if number is not None:
        return os.strerror(number)
    if status := re.search(r"non-2xx status code: (\d{3})", message):
        return f"it answered {status[1]}"
    return f"an error without a known cause ({type(error).__name__})"
