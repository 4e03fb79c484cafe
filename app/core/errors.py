"""Every error that the service raises on purpose.

Knows nothing of HTTP: `app.api.errors` maps each to a status.

    ServiceError
    ├── SettingsError               the settings cannot work: the service does not start
    ├── RequestError                the request is at fault
    │   ├── NotMultipartError       the body is not a multipart form
    │   ├── MalformedFormError      the form cannot be read, or has too many parts
    │   ├── MissingImageError       the form has no image
    │   ├── ImageNotAFileError      the field `image` holds text instead of a file
    │   ├── UnexpectedFieldError    the form has a field that is not known
    │   ├── RepeatedFieldError      the form has a field twice
    │   ├── MalformedRequestError   it is no HTTP/1.1, or can be read in two ways
    │   ├── TransferEncodingError   its body comes in an encoding that is not known
    │   ├── HeadTooLargeError       its head has more bytes than are accepted
    │   ├── HeadTimeoutError        its head arrives too slowly
    │   ├── BodyTooLargeError       more bytes than are accepted; raised while they arrive
    │   ├── BodyTimeoutError        the body arrives too slowly
    │   └── ClientGoneError         the client hung up before its answer
    ├── BusyError                   not now: the same request may work a moment later
    │   ├── NotReadyError           the default model is still loading or warming up
    │   ├── ModelsMemoryFullError   no memory for another model while the loaded ones are in use
    │   ├── QueueFullError          too many images wait already
    │   ├── TooManyUploadsError     too many uploads are being received already
    │   ├── UploadMemoryFullError   the uploads in memory leave no room for another
    │   ├── TooManyConnectionsError each connection that there may be has a request in progress
    │   ├── RequestTimeoutError     the answer took too long
    │   ├── InferenceLostError      the inference thread hung or died with this batch
    │   └── StoppingError           the service is shutting down
    ├── ModelUnavailableError       a model other than the default cannot be used, nor soon
    └── InternalError               the service is at fault; its text is only for the log
        ├── BatchFailedError        the function that runs a batch raised, or broke its contract
        └── CanaryError             the first image through a model came out wrong

Each message of a RequestError, BusyError or ModelUnavailableError is written for the person who
sent the request: what is wrong, and what would be right. Errors of images, options and bundles are
the library's, in `models.errors`.
"""

__all__ = [
    "BatchFailedError",
    "BodyTimeoutError",
    "BodyTooLargeError",
    "BusyError",
    "CanaryError",
    "ClientGoneError",
    "HeadTimeoutError",
    "HeadTooLargeError",
    "ImageNotAFileError",
    "InferenceLostError",
    "InternalError",
    "MalformedFormError",
    "MalformedRequestError",
    "MissingImageError",
    "ModelUnavailableError",
    "ModelsMemoryFullError",
    "NotMultipartError",
    "NotReadyError",
    "QueueFullError",
    "RepeatedFieldError",
    "RequestError",
    "RequestTimeoutError",
    "ServiceError",
    "SettingsError",
    "StoppingError",
    "TooManyConnectionsError",
    "TooManyUploadsError",
    "TransferEncodingError",
    "UnexpectedFieldError",
    "UploadMemoryFullError",
]


class ServiceError(Exception):
    """Base class of every error that the service raises on purpose."""


class SettingsError(ServiceError):
    """The settings cannot work."""


class RequestError(ServiceError):
    """The request is at fault."""


class NotMultipartError(RequestError):
    """The body is not a multipart form."""


class MalformedFormError(RequestError):
    """The multipart form cannot be read, or has too many parts."""


class MissingImageError(RequestError):
    """The form has no image."""


class ImageNotAFileError(RequestError):
    """The field `image` holds text instead of a file."""


class UnexpectedFieldError(RequestError):
    """The form has a field that is not known."""


class RepeatedFieldError(RequestError):
    """The form has a field twice."""


class MalformedRequestError(RequestError):
    """The request is no HTTP/1.1 that can be read, or can be read in two ways."""


class TransferEncodingError(RequestError):
    """The request's body comes in a transfer encoding that is not known."""


class HeadTooLargeError(RequestError):
    """The request's head has more bytes than are accepted."""


class HeadTimeoutError(RequestError):
    """The request's head arrives too slowly."""


class BodyTooLargeError(RequestError):
    """The request has more bytes than are accepted."""


class BodyTimeoutError(RequestError):
    """The request's body arrives too slowly."""


class ClientGoneError(RequestError):
    """The client hung up before its answer was ready."""


class BusyError(ServiceError):
    """The service cannot answer now; the same request may work a moment later.

    retry_after_seconds: when trying again makes sense, in whole seconds.
    """

    def __init__(self, message: str, *, retry_after_seconds: int = 2) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotReadyError(BusyError):
    """The default model is still loading or warming up."""


class ModelsMemoryFullError(BusyError):
    """There is no memory for another model while the loaded ones are in use."""


class QueueFullError(BusyError):
    """Too many images wait already."""


class TooManyUploadsError(BusyError):
    """Too many uploads are being received already."""


class UploadMemoryFullError(BusyError):
    """The uploads that are in memory leave no room for another."""


class TooManyConnectionsError(BusyError):
    """Each connection that there may be has a request in progress."""


class RequestTimeoutError(BusyError):
    """The answer took longer than a request may take."""


class InferenceLostError(BusyError):
    """The inference thread hung, or died, with this batch; a new one is started."""


class StoppingError(BusyError):
    """The service is shutting down."""

    def __init__(
        self,
        message: str = "The service is shutting down. Try again in a few seconds.",
        *,
        retry_after_seconds: int = 2,
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)


class ModelUnavailableError(ServiceError):
    """A model other than the default cannot be used, until its files or the memory limit change."""


class InternalError(ServiceError):
    """The service is at fault."""


class BatchFailedError(InternalError):
    """The function that runs a batch raised, or broke its contract; the cause is chained."""


class CanaryError(InternalError):
    """The first image through a model came out wrong."""
