"""Limits and timeouts of a worker."""

from pydantic import BaseModel, ConfigDict, PositiveInt


class WorkerSettings(BaseModel):
    """All settings of the service; the defaults suit one GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_samples: PositiveInt = 64
    """Most seeds in one request."""

    max_pixels: PositiveInt = 2048 * 2048
    """Most pixels of an input image."""

    max_answer_bytes: PositiveInt = 2 * 2**30
    """Most bytes of all samples of one request: M * k*h * k*w * 3."""

    max_json_values: PositiveInt = 8 * 2**20
    """Most values in a JSON answer; JSON takes twenty times their memory."""

    queue_size: PositiveInt = 16
    """Requests that may wait; more are refused with 503."""

    drain_s: PositiveInt = 60
    """How long running requests may take to finish after SIGTERM."""

    @property
    def max_body_bytes(self) -> int:
        """Most bytes of a request: the largest image and seeds, written as JSON."""
        # A JSON number of a pixel with its comma is at most 5 bytes, of a seed at most 22.
        return 5 * 3 * self.max_pixels + 22 * self.max_samples + 64 * 2**10
