"""Expected errors of a worker.

Models raise these; only `workers.service` knows their HTTP statuses.
"""


class WorkerError(Exception):
    """Base of every error that a worker reports in one line instead of a traceback."""


class ConfigError(WorkerError):
    """A setting or a model configuration is missing, unknown or contradictory."""


class WeightsError(WorkerError):
    """A weight file cannot be used.

    The message names every wrong key or byte; `summary` fits a terminal.
    """

    def __init__(self, message: str, summary: str | None = None) -> None:
        super().__init__(message)
        self.summary = summary or message


class InputError(WorkerError):
    """The request is wrong: tensor names, types, shapes, an unreadable image."""


class TooLarge(InputError):
    """The request is well formed but over one of the worker's limits."""


class NotHere(InputError):
    """This worker does not serve the requested model or version."""


class Busy(WorkerError):
    """The worker cannot take the request now.

    `retry_after_s` is its estimate of when it can, in whole seconds.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClientGone(WorkerError):
    """The client closed the connection; nobody waits for the result."""


class ModelFailed(WorkerError):
    """The model gave no picture, or raised an error, which the log then has."""


class OutOfMemory(WorkerError):
    """The device has too little memory for even one sample of this image."""
