"""What can go wrong in a worker, apart from a bug.

Models raise these; only `workers.service` knows which HTTP status each one is.
"""


class WorkerError(Exception):
    """Base of every error that a worker reports in one line instead of a traceback."""


class ConfigError(WorkerError):
    """A setting or a model configuration is missing, unknown or contradictory."""


class WeightsError(WorkerError):
    """A weight file cannot be used.

    The message says which keys or bytes are wrong, all of them; `summary` is short enough to
    be read on a terminal.
    """

    def __init__(self, message: str, summary: str | None = None) -> None:
        super().__init__(message)
        self.summary = summary or message


class InputError(WorkerError):
    """The request itself is wrong: tensor names, types, shapes, an unreadable image."""


class TooLarge(InputError):
    """The request is well formed but over one of the worker's limits."""


class NotHere(InputError):
    """The model or the version that the request names is not served by this worker."""


class Busy(WorkerError):
    """The worker cannot take the request now.

    `retry_after_s` is the worker's own guess of when it can, in whole seconds.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClientGone(WorkerError):
    """The client closed the connection; nobody waits for the result."""


class ModelFailed(WorkerError):
    """The model gave no picture, or raised what is a bug, there or here; then the log has it."""


class OutOfMemory(WorkerError):
    """The device has too little memory for even one sample of this image."""
