"""The kinds of problems, and which one each error is: the one table from exception to status.

Answers nothing: see `app.api.errors`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from app.api.base_address import base_address_context
from app.core import errors as service
from app.core.settings import DEFAULT_MODEL
from models import errors as library

__all__ = ["HTTP_PROBLEMS", "INTERNAL", "PROBLEMS", "ProblemKind", "kind_of"]


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem: `slug` ends its type, and `example` is a detail as a client reads it."""

    status: int
    slug: str
    title: str
    example: str

    @property
    def type(self) -> str:
        """The problem's stable address, or RFC 9457's word for "just the status".

        Under a root path it begins with that, so that it resolves.
        """
        root_path = base_address_context.get().root_path
        return f"{root_path}/problems/{self.slug}" if self.slug else "about:blank"


INTERNAL = ProblemKind(
    500,
    "internal-error",
    "The service failed",
    "Something went wrong inside the service. Its log has the details under this request's id.",
)
_IMAGE = ProblemKind(
    422, "unusable-image", "The picture cannot be used", "The picture cannot be used."
)
_OPTION = ProblemKind(
    422,
    "invalid-option",
    "An option is out of its bounds",
    "beam_size must be 1 to 20, but is '0' (input should be greater than or equal to 1).",
)
_REQUEST = ProblemKind(
    400, "bad-request", "The request cannot be understood", "The request cannot be understood."
)
_BUSY = ProblemKind(503, "busy", "The service cannot answer now", "The service cannot answer now.")
_GONE = ProblemKind(
    499, "client-gone", "The client hung up", "The client hung up before its answer was ready."
)
_NOT_FOUND = ProblemKind(
    404, "not-found", "There is nothing here", "There is nothing at /captions. See /docs."
)
_WRONG_METHOD = ProblemKind(
    405,
    "method-not-allowed",
    "This address does not answer that method",
    "GET is not answered at /caption; POST is. See /docs.",
)

PROBLEMS: Mapping[type[Exception], ProblemKind] = {
    library.EmptyImageError: ProblemKind(
        400,
        "empty-image",
        "The picture is empty",
        "The picture is empty (0 bytes). Send the bytes of a picture file.",
    ),
    library.UnreadableImageError: ProblemKind(
        415,
        "unreadable-image",
        "The file is no picture that can be read",
        "The file is not a picture that can be read. Accepted formats: JPEG, PNG, WebP, GIF, BMP, "
        "TIFF, AVIF, HEIC.",
    ),
    library.TruncatedImageError: ProblemKind(
        422,
        "damaged-image",
        "The picture is damaged",
        "The JPEG file ends early, is damaged, or is of a rare kind that cannot be read. Send the "
        "complete file, or save it again as JPEG or PNG.",
    ),
    library.ImageTooLargeError: ProblemKind(
        413,
        "too-many-pixels",
        "The picture has too many pixels",
        "The picture is 20000 x 10000 pixels (200 megapixels); at most 50 megapixels are "
        "accepted. Send a smaller copy.",
    ),
    library.ImageTooSmallError: ProblemKind(
        422,
        "image-too-small",
        "The picture is too small",
        "The picture is 1 x 1 pixels; each side must have at least 16.",
    ),
    library.ImageTooSlowError: ProblemKind(
        422,
        "slow-image",
        "The picture takes too long to decode",
        "The picture takes longer than 10 seconds to decode. Save it again as JPEG or PNG, or send "
        "a smaller copy.",
    ),
    library.ImageCrashError: ProblemKind(
        422,
        "undecodable-image",
        "The picture breaks its decoder",
        "The picture breaks the program that decodes its format. Save it again as JPEG or PNG.",
    ),
    library.ImageError: _IMAGE,
    library.OptionsError: _OPTION,
    library.UnknownModelError: ProblemKind(
        404,
        "unknown-model",
        "There is no such model",
        f"There is no model named 'nonesuch'. Models: {DEFAULT_MODEL}.",
    ),
    library.ConfigError: INTERNAL,
    library.RuntimeMissingError: INTERNAL,
    library.CheckpointError: INTERNAL,
    library.GlimpseError: INTERNAL,
    service.BodyTypeError: ProblemKind(
        415,
        "not-a-form",
        "The body is of no type that pictures may be sent in",
        "The picture is expected as it is (image/…), in a multipart form, or in JSON, but the body "
        "is 'text/plain'. For example: curl -F image=@photo.jpg http://localhost:8000/caption",
    ),
    service.MalformedFormError: ProblemKind(
        400,
        "malformed-form",
        "The multipart form cannot be read",
        "The multipart form cannot be read: its Content-Type names no boundary between the parts.",
    ),
    service.MalformedJsonError: ProblemKind(
        400,
        "malformed-json",
        "The JSON cannot be read",
        "The JSON cannot be read: expecting ',' delimiter at line 1, column 42. For example: "
        '{"image": "/9j/4AAQSkZJRg…"}, the bytes of the picture in base64',
    ),
    service.MalformedBase64Error: ProblemKind(
        400,
        "malformed-base64",
        "The picture in the JSON is no base64",
        "The member 'image' is no base64: letter 17 is '.'. Send the bytes of the picture in "
        "base64, or as data:image/jpeg;base64,…",
    ),
    service.MissingImageError: ProblemKind(
        400,
        "missing-image",
        "There is no picture in the request",
        "The form has no field named 'image'. For example: curl -F image=@photo.jpg "
        "http://localhost:8000/caption",
    ),
    service.TwoImagesError: ProblemKind(
        400,
        "two-images",
        "The request has a picture and the address of one",
        "The JSON has both 'image' and 'url'. Give one of them.",
    ),
    service.TooManyImagesError: ProblemKind(
        413,
        "too-many-images",
        "The request has too many pictures",
        "The request has 60 pictures; at most 32 are accepted. Send them in several.",
    ),
    service.ImageNotAFileError: ProblemKind(
        400,
        "image-not-a-file",
        "The picture came as text",
        "The field 'image' holds text, not a file. With curl, put @ before the path: -F "
        "image=@photo.jpg",
    ),
    service.UnexpectedFieldError: ProblemKind(
        400,
        "unexpected-field",
        "The request has an unknown field",
        "The form has an unknown field 'file'. The picture is expected in a field named 'image'.",
    ),
    service.RepeatedFieldError: ProblemKind(
        400,
        "repeated-field",
        "The request has a field twice",
        "The form has the field 'image' 2 times. Send one picture in a request.",
    ),
    service.UrlFetchingOffError: ProblemKind(
        403,
        "url-fetching-off",
        "Captioning by URL is off",
        "This service fetches no pictures by URL: its operator has not turned that on. Send the "
        "picture itself. For example: curl -F image=@photo.jpg http://localhost:8000/caption",
    ),
    service.UrlRefusedError: ProblemKind(
        422,
        "url-refused",
        "The URL is not fetched from here",
        "The host of the URL cannot be used: it is unknown, or not on the public internet. Send "
        "the URL of a public web server, or the picture itself.",
    ),
    service.UrlUnreachableError: ProblemKind(
        422,
        "url-unreachable",
        "The URL's host does not answer",
        "The host of the URL did not take the connection. Send the picture itself.",
    ),
    service.UrlStatusError: ProblemKind(
        422,
        "url-status",
        "The URL has nothing to show",
        "The URL answered 404 instead of 200. Send one that a browser without a login shows.",
    ),
    service.UrlNotAnImageError: ProblemKind(
        415,
        "url-not-an-image",
        "The URL is not that of a picture",
        "The URL answered with 'text/html', which is no picture. Send the address of the picture "
        "itself, not of the page that shows it.",
    ),
    service.UrlTooLargeError: ProblemKind(
        413,
        "url-too-large",
        "The picture behind the URL is too large",
        "The picture behind the URL is larger than 20000000 bytes, which is the most that is "
        "accepted. Send a smaller copy.",
    ),
    service.UrlTimeoutError: ProblemKind(
        422,
        "url-too-slow",
        "The URL's host is too slow",
        "The picture did not arrive within 10 seconds. Send the picture itself.",
    ),
    service.UrlError: ProblemKind(
        422, "unusable-url", "The URL cannot be used", "The URL cannot be used."
    ),
    service.MalformedRequestError: ProblemKind(
        400,
        "malformed-request",
        "The request is no HTTP that can be read",
        "The request has both Content-Length and Transfer-Encoding. Send one of them.",
    ),
    service.TransferEncodingError: ProblemKind(
        501,
        "unknown-transfer-encoding",
        "The request's transfer encoding is not known",
        "The request's Transfer-Encoding is not known here. Send chunked, or Content-Length.",
    ),
    service.HeadTooLargeError: ProblemKind(
        431,
        "head-too-large",
        "The request's head is too large",
        "The request's head is larger than 16384 bytes. Send fewer or shorter headers.",
    ),
    service.HeadTimeoutError: ProblemKind(
        408,
        "head-too-slow",
        "The request arrived too slowly",
        "The request's head was not complete within 10 seconds. Send it at once.",
    ),
    service.BodyTooLargeError: ProblemKind(
        413,
        "body-too-large",
        "The request is too large",
        "The request is 50000000 bytes; at most 20000000 are accepted. Send a smaller copy of the "
        "picture.",
    ),
    service.BodyTimeoutError: ProblemKind(
        408,
        "body-too-slow",
        "The request arrived too slowly",
        "Nothing of the request's body arrived for 10 seconds.",
    ),
    service.KeyNeededError: ProblemKind(
        401,
        "key-needed",
        "A key is needed",
        "This needs an API key, and none that is good came with the request. Send it as "
        "'Authorization: Bearer KEY' or 'X-API-Key: KEY'; the operator of this service gives keys.",
    ),
    service.ForeignPageError: ProblemKind(
        403,
        "foreign-page",
        "A page of another site may not send this",
        "The request comes from a page of https://example.org, and that site may not use this "
        "service. Its operator can allow it with GLIMPSE_CORS_ORIGINS.",
    ),
    service.WrongHostError: ProblemKind(
        421,
        "wrong-host",
        "The service is not known under this name",
        "This service is not known as 'example.org'. Use an address of this machine such as "
        "localhost; its operator can allow other names with GLIMPSE_ALLOWED_HOSTS.",
    ),
    service.TooManyRequestsError: ProblemKind(
        429,
        "too-many-requests",
        "Too many requests",
        "60 requests a minute are allowed, and all of them are used. Try again in 12 seconds.",
    ),
    service.JobsOffError: ProblemKind(
        403,
        "jobs-off",
        "Jobs are off",
        "This service keeps no jobs: its operator turns them on with GLIMPSE_JOBS_FOLDER. Send "
        "fewer pictures at a time to /caption/batch.",
    ),
    service.UnknownJobError: ProblemKind(
        404,
        "unknown-job",
        "There is no such job",
        "There is no job 'a1b2'. It may have been deleted, or be too old, or another key's.",
    ),
    service.JobNotDoneError: ProblemKind(
        409,
        "job-not-done",
        "The job is not done",
        "The job is not done: 12 of 40 pictures are. GET /jobs/{id} shows what there is so far.",
    ),
    service.GivenUpError: ProblemKind(
        422,
        "given-up",
        "The picture was given up",
        "The picture was tried three times, and each time what worked at it ended. Save it again "
        "as JPEG or PNG, or leave it out.",
    ),
    service.ClientGoneError: _GONE,
    ClientDisconnect: _GONE,
    service.RequestError: _REQUEST,
    service.PhotoFileError: ProblemKind(
        422,
        "unreadable-file",
        "The file cannot be read",
        "The file cannot be read: Permission denied.",
    ),
    service.StoreUnreachableError: ProblemKind(
        503,
        "store-unreachable",
        "The store did not give the picture",
        "The store did not give it: timeout was reached. The same command tries it again.",
    ),
    service.BulkOutputError: INTERNAL,
    service.ClusterError: INTERNAL,
    service.NotReadyError: ProblemKind(
        503,
        "not-ready",
        "The model is not ready",
        "The model is warming up. Try again in a few seconds.",
    ),
    service.ModelUnavailableError: ProblemKind(
        503,
        "model-unavailable",
        "The model cannot be used",
        "The model 'nic' does not work; the operator finds the reason in the service's log. Other "
        "models are not touched by it.",
    ),
    service.ModelsMemoryFullError: ProblemKind(
        503,
        "models-memory-full",
        "There is no memory for the model now",
        "There is no memory for the model 'nic' while others are in use. Try again in a few "
        "seconds.",
    ),
    service.QueueFullError: ProblemKind(
        503,
        "queue-full",
        "The service is busy",
        "128 pictures wait already. Try again in a few seconds.",
    ),
    service.TooManyUploadsError: ProblemKind(
        503,
        "too-many-uploads",
        "The service is busy",
        "64 uploads are being received already. Try again in a few seconds.",
    ),
    service.JobsFullError: ProblemKind(
        503,
        "jobs-full",
        "There is no room for another job",
        "There is no room for another job now. Try again later, or send fewer pictures.",
    ),
    service.JobsUnavailableError: ProblemKind(
        503,
        "jobs-unavailable",
        "Jobs cannot be read or written now",
        "Jobs cannot be read or written now; the operator finds the reason in the service's log. "
        "Try again later.",
    ),
    service.UploadMemoryFullError: ProblemKind(
        503,
        "upload-memory-full",
        "The service is busy",
        "There is no room in memory for the picture now. Try again in a few seconds.",
    ),
    service.TooManyConnectionsError: ProblemKind(
        503,
        "too-many-connections",
        "The service is busy",
        "Too many connections are open already. Try again in a few seconds.",
    ),
    service.TooManyFetchesError: ProblemKind(
        503,
        "too-many-fetches",
        "The service is busy",
        "8 pictures are being fetched already. Try again in a few seconds.",
    ),
    service.RequestTimeoutError: ProblemKind(
        503,
        "timed-out",
        "The answer took too long",
        "No answer within 30 seconds. Try again later, or send a smaller picture.",
    ),
    service.InferenceLostError: ProblemKind(
        503,
        "inference-lost",
        "The model stopped in the middle",
        "The model hung, or crashed, while it captioned this picture and those beside it; it is "
        "started again. Try again in a few seconds.",
    ),
    library.OutOfMemoryError: ProblemKind(
        503,
        "out-of-memory",
        "There is no memory for the picture now",
        "There is no memory to decode the picture now. Try again in a few seconds, or send a "
        "smaller copy.",
    ),
    service.DecoderLostError: ProblemKind(
        503,
        "decoder-lost",
        "The picture was not decoded",
        "The process that decoded the picture was ended from outside. Try again in a few seconds.",
    ),
    service.StoppingError: ProblemKind(
        503,
        "stopping",
        "The service is shutting down",
        "The service is shutting down. Try again in a few seconds.",
    ),
    service.BusyError: _BUSY,
    service.SettingsError: INTERNAL,
    service.DecoderFailedError: INTERNAL,
    service.KeysFileError: INTERNAL,
    service.BatchFailedError: INTERNAL,
    service.CanaryError: INTERNAL,
    service.InternalError: INTERNAL,
    service.ServiceError: INTERNAL,
    RequestValidationError: _OPTION,
}
"""Every error, and how it is answered. A subclass without a line takes that of its base."""

HTTP_PROBLEMS: Mapping[int, ProblemKind] = {404: _NOT_FOUND, 405: _WRONG_METHOD}
"""The router's own errors, by status."""


def kind_of(error: BaseException) -> ProblemKind:
    """Find the problem that an exception is; `INTERNAL` for what was not foreseen."""
    return next((PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS), INTERNAL)
