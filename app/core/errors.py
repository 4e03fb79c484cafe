"""Every error that the service raises on purpose.

Knows nothing of HTTP: `app.api.problem_kinds` maps each to a status.

    ServiceError
    ├── SettingsError               the settings cannot work: the service does not start
    │   └── KeysFileError           the file of keys cannot be read or written
    ├── RequestError                the request is at fault
    │   ├── BodyTypeError           the body is of no type that pictures may be sent in
    │   ├── MalformedFormError      the form cannot be read, or has too many parts
    │   ├── MalformedJsonError      the JSON cannot be read, or is no object
    │   ├── MalformedBase64Error    an image in JSON is no base64
    │   ├── MissingImageError       the request has no image, nor the URL of one
    │   ├── TwoImagesError          the JSON has an image and the URL of one
    │   ├── TooManyImagesError      the request has more images than one may have
    │   ├── ImageNotAFileError      the field `image` holds text instead of a file
    │   ├── UnexpectedFieldError    the form or the JSON has a field that is not known
    │   ├── RepeatedFieldError      the form or the JSON has a field twice
    │   ├── UrlError                there is no picture to be had by the URL
    │   │   ├── UrlFetchingOffError the operator has not turned captioning by URL on
    │   │   ├── UrlRefusedError     the URL, or where it leads, is not fetched from here
    │   │   ├── UrlUnreachableError its host does not answer, or not as it should
    │   │   ├── UrlStatusError      its host answers that there is nothing to be had
    │   │   ├── UrlNotAnImageError  its host answers with something else than a picture
    │   │   ├── UrlTooLargeError    its host answers with more bytes than are accepted
    │   │   └── UrlTimeoutError     its host answers too slowly
    │   ├── MalformedRequestError   it is no HTTP/1.1, or can be read in two ways
    │   ├── TransferEncodingError   its body comes in an encoding that is not known
    │   ├── HeadTooLargeError       its head has more bytes than are accepted
    │   ├── HeadTimeoutError        its head arrives too slowly
    │   ├── BodyTooLargeError       more bytes than are accepted; raised while they arrive
    │   ├── BodyTimeoutError        the body arrives too slowly
    │   ├── KeyNeededError          no key came with the request, or none that is good
    │   ├── ForeignPageError        a page of another site sent the request
    │   ├── WrongHostError          the request asks under a name that is not this service's
    │   ├── TooManyRequestsError    the client has sent as many requests as it may for now
    │   ├── JobsOffError            the operator has not turned jobs on
    │   ├── UnknownJobError         this key has no such job
    │   ├── JobNotDoneError         the job has images that wait
    │   ├── GivenUpError            an image of a job was tried too often
    │   └── ClientGoneError         the client hung up before its answer
    ├── BusyError                   not now: the same request may work a moment later
    │   ├── NotReadyError           the default model is still loading or warming up
    │   ├── ModelsMemoryFullError   no memory for another model while the loaded ones are in use
    │   ├── QueueFullError          too many images wait already
    │   ├── TooManyUploadsError     too many uploads are being received already
    │   ├── TooManyFetchesError     too many pictures are being fetched by URL already
    │   ├── JobsFullError           as many jobs are kept as may be
    │   ├── JobsUnavailableError    the jobs' database cannot be read or written
    │   ├── UploadMemoryFullError   the uploads in memory leave no room for another
    │   ├── TooManyConnectionsError each connection that there may be has a request in progress
    │   ├── RequestTimeoutError     the answer took too long
    │   ├── DecoderLostError        the process that decoded the image ended, or did not get to it
    │   ├── StoreUnreachableError   an object store did not give a photo
    │   ├── InferenceLostError      the inference thread hung or died with this batch
    │   └── StoppingError           the service is shutting down
    ├── PhotoFileError              a file or folder of photos cannot be read, or is too large
    ├── BulkOutputError             the output of many captions cannot be written, or gone on with
    ├── ClusterError                a cluster of machines cannot be reached, or fails
    ├── ModelUnavailableError       a model other than the default cannot be used, nor soon
    └── InternalError               the service is at fault; its text is only for the log
        ├── DecoderFailedError      the program that decodes images is at fault
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
    "BodyTypeError",
    "BulkOutputError",
    "BusyError",
    "CanaryError",
    "ClientGoneError",
    "ClusterError",
    "DecoderFailedError",
    "DecoderLostError",
    "ForeignPageError",
    "GivenUpError",
    "HeadTimeoutError",
    "HeadTooLargeError",
    "ImageNotAFileError",
    "InferenceLostError",
    "InternalError",
    "JobNotDoneError",
    "JobsFullError",
    "JobsOffError",
    "JobsUnavailableError",
    "KeyNeededError",
    "KeysFileError",
    "MalformedBase64Error",
    "MalformedFormError",
    "MalformedJsonError",
    "MalformedRequestError",
    "MissingImageError",
    "ModelUnavailableError",
    "ModelsMemoryFullError",
    "NotReadyError",
    "PhotoFileError",
    "QueueFullError",
    "RepeatedFieldError",
    "RequestError",
    "RequestTimeoutError",
    "ServiceError",
    "SettingsError",
    "StoppingError",
    "StoreUnreachableError",
    "TooManyConnectionsError",
    "TooManyFetchesError",
    "TooManyImagesError",
    "TooManyRequestsError",
    "TooManyUploadsError",
    "TransferEncodingError",
    "TwoImagesError",
    "UnexpectedFieldError",
    "UnknownJobError",
    "UploadMemoryFullError",
    "UrlError",
    "UrlFetchingOffError",
    "UrlNotAnImageError",
    "UrlRefusedError",
    "UrlStatusError",
    "UrlTimeoutError",
    "UrlTooLargeError",
    "UrlUnreachableError",
    "WrongHostError",
]


class ServiceError(Exception):
    """Base class of every error that the service raises on purpose."""


class SettingsError(ServiceError):
    """The settings cannot work."""


class KeysFileError(SettingsError):
    """The file of API keys cannot be read or written."""


class RequestError(ServiceError):
    """The request is at fault."""


class BodyTypeError(RequestError):
    """The body is of no type that pictures may be sent in."""


class MalformedFormError(RequestError):
    """The multipart form cannot be read, or has too many parts."""


class MalformedJsonError(RequestError):
    """The JSON cannot be read, or is no object."""


class MalformedBase64Error(RequestError):
    """An image in JSON is no base64, and no data URI."""


class MissingImageError(RequestError):
    """The request has no image, nor the URL of one."""


class TwoImagesError(RequestError):
    """The JSON has an image and the URL of one."""


class TooManyImagesError(RequestError):
    """The request has more images than one may have."""


class ImageNotAFileError(RequestError):
    """The field `image` holds text instead of a file."""


class UnexpectedFieldError(RequestError):
    """The form or the JSON has a field that is not known."""


class RepeatedFieldError(RequestError):
    """The form or the JSON has a field twice."""


class UrlError(RequestError):
    """There is no picture to be had by the URL of the request."""


class UrlFetchingOffError(UrlError):
    """The operator has not turned captioning by URL on."""


class UrlRefusedError(UrlError):
    """The URL, or one that it leads to, is not fetched from here."""


class UrlUnreachableError(UrlError):
    """The URL's host does not answer, or not as it should."""


class UrlStatusError(UrlError):
    """The URL's host answers that there is nothing to be had."""


class UrlNotAnImageError(UrlError):
    """The URL's host answers with something else than a picture."""


class UrlTooLargeError(UrlError):
    """The URL's host answers with more bytes than are accepted."""


class UrlTimeoutError(UrlError):
    """The URL's host answers too slowly."""


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


class KeyNeededError(RequestError):
    """No key came with the request, or none that is good; which of the two is not said."""


class ForeignPageError(RequestError):
    """A page of another site sent the request."""


class WrongHostError(RequestError):
    """The request asks under a name that is not this service's."""


class TooManyRequestsError(RequestError):
    """The client has sent as many requests as it may for now."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        """Take the text for the client, and how long it should wait."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class JobsOffError(RequestError):
    """The operator has not turned jobs on."""


class UnknownJobError(RequestError):
    """There is no such job, or it is another key's; which of the two is not said."""


class JobNotDoneError(RequestError):
    """The job has images that wait to be captioned."""


class GivenUpError(RequestError):
    """An image of a job was tried as often as it may be, and each time what worked at it ended."""


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


class TooManyFetchesError(BusyError):
    """Too many pictures are being fetched by URL already."""


class JobsFullError(BusyError):
    """As many jobs, or bytes of them, are kept as may be."""

    def __init__(self, message: str, *, retry_after_seconds: int = 60) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)


class JobsUnavailableError(BusyError):
    """The jobs' database cannot be read or written now."""

    def __init__(self, message: str, *, retry_after_seconds: int = 60) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)


class UploadMemoryFullError(BusyError):
    """The uploads that are in memory leave no room for another."""


class TooManyConnectionsError(BusyError):
    """Each connection that there may be has a request in progress."""


class RequestTimeoutError(BusyError):
    """The answer took longer than a request may take."""


class DecoderLostError(BusyError):
    """The process that decoded the image was ended from outside, or got no time to decode it."""


class StoreUnreachableError(BusyError):
    """An object store did not give a photo, which it may do a moment later."""


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


class PhotoFileError(ServiceError):
    """A file or folder of photos cannot be read, or has more bytes than are accepted."""


class BulkOutputError(ServiceError):
    """The output of many captions cannot be written, or has something else in it."""


class ClusterError(ServiceError):
    """A cluster of machines cannot be reached, or failed in the middle of its work."""


class ModelUnavailableError(ServiceError):
    """A model other than the default cannot be used, until its files or the memory limit change."""


class InternalError(ServiceError):
    """The service is at fault."""


class DecoderFailedError(InternalError):
    """The program that decodes images raised what it should not; its traceback is the text."""


class BatchFailedError(InternalError):
    """The function that runs a batch raised, or broke its contract; the cause is chained."""


class CanaryError(InternalError):
    """The first image through a model came out wrong."""
