"""Trustscale's client library: upscaled images, and where their colours are right.

For example:

    with Trustscale("http://127.0.0.1:8000") as service:
        result = service.upscale("photo.png", alpha=0.05)
    result.image, result.mask, result.trust
"""

from trustscale._client import AsyncTrustscale, Trustscale
from trustscale._jobs import AsyncJob, Job
from trustscale._result import Guarantee, Result
from trustscale._session import Problem
from trustscale._upload import Tar

__version__ = "0.9.0"

__all__ = [
    "AsyncJob",
    "AsyncTrustscale",
    "Guarantee",
    "Job",
    "Problem",
    "Result",
    "Tar",
    "Trustscale",
]
