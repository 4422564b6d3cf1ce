"""Expected errors of a worker; a wrong setting is a `ConfigError`, as everywhere."""

from trustscale_server.platform.errors import TransientError, TrustscaleError


class WorkerError(TrustscaleError):
    """Base of what a worker's files, requests and model can do wrong."""


class WeightsError(WorkerError):
    """A weight file cannot be used."""


class InputError(WorkerError):
    """The request is wrong."""


class TooLarge(InputError):
    """The request is over one of the worker's limits."""


class UnknownModel(InputError):
    """This worker does not serve the requested model or version."""


class QueueFull(WorkerError, TransientError):
    """The worker cannot take the request now, but perhaps in `retry_after` seconds."""


class ClientGone(WorkerError):
    """The client closed the connection."""


class ModelFailed(WorkerError):
    """The model gave no picture, or raised an error, which is in the log."""


class OutOfMemory(WorkerError):
    """The device has too little memory for one sample of this image."""
