"""Limits and timeouts of a worker."""

from pydantic import BaseModel, ConfigDict, PositiveInt


class WorkerSettings(BaseModel):
    """All settings of the service; the defaults suit one GPU.

    max_samples: seeds in one request.
    max_pixels: of an input image.
    max_answer_bytes: of all samples of one request, M * k*h * k*w * 3.
    max_json_values: of a JSON answer, which takes twenty times their memory.
    queue_size: requests that may wait; more are refused with 503.
    drain_s: how long running requests may take to finish after SIGTERM.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_samples: PositiveInt = 64
    max_pixels: PositiveInt = 2048 * 2048
    max_answer_bytes: PositiveInt = 2 * 2**30
    max_json_values: PositiveInt = 8 * 2**20
    queue_size: PositiveInt = 16
    drain_s: PositiveInt = 60

    @property
    def max_body_bytes(self) -> int:
        """Most bytes of a request: the largest image and seeds, written as JSON."""
        # With its comma a pixel's number is at most 5 bytes, a seed at most 22.
        return 5 * 3 * self.max_pixels + 22 * self.max_samples + 64 * 2**10
