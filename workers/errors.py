"""Expected errors of a worker."""


class WorkerError(Exception):
    """Base of the errors that a worker reports in one line."""


class ConfigError(WorkerError):
    """A setting is missing, unknown or contradictory."""


class WeightsError(WorkerError):
    """An unusable weight file; the message names every fault, `summary` fits a terminal."""

    def __init__(self, message: str, summary: str | None = None) -> None:
        super().__init__(message)
        self.summary = summary or message


class InputError(WorkerError):
    """The request is wrong."""


class TooLarge(InputError):
    """The request is over one of the worker's limits."""


class UnknownModel(InputError):
    """This worker does not serve the requested model or version."""


class Busy(WorkerError):
    """The worker cannot take the request now, but perhaps in `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClientGone(WorkerError):
    """The client closed the connection."""


class ModelFailed(WorkerError):
    """The model gave no picture, or raised an error, which is in the log."""


class OutOfMemory(WorkerError):
    """The device has too little memory for one sample of this image."""
