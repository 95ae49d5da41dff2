"""Errors as every client reads them: OpenAI's and Anthropic's `error`, Jina's `detail`, Cohere's `message`."""

from __future__ import annotations

from collections.abc import Mapping

from fairpos import errors

# The library's errors by status and code; the first class that fits counts.
_STATUS: tuple[tuple[type[errors.FairposError], int, str], ...] = (
    (errors.TooLong, 422, "context_length_exceeded"),
    (errors.UnknownName, 422, "unknown_name"),
    (errors.InvalidRequest, 422, "invalid_request"),
    (errors.InvalidOption, 422, "invalid_option"),
    (errors.InvalidComposition, 422, "unsupported_method"),
    (errors.UnsupportedModel, 422, "unsupported_method"),
    (errors.UnsupportedBackend, 422, "unsupported_method"),
    (errors.NotCalibrated, 422, "not_calibrated"),
    (errors.ModelUnavailable, 503, "model_unavailable"),
    (errors.BackendError, 502, "upstream_error"),
    (errors.MissingDependency, 501, "not_installed"),
)
# What `on_unsupported: "pass"` lets by: the method is fine, this backend or model can't do it.
UNSUPPORTED = (errors.InvalidComposition, errors.UnsupportedModel, errors.UnsupportedBackend, errors.NotCalibrated)


class ServiceError(Exception):
    """What a client is told.

    Args:
        status: HTTP status.
        code: A stable word for programs.
        message: A sentence for people.
        param: The field that is to blame.
        headers: Sent with it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        message = message.encode(errors="replace").decode()  # it may quote half of a surrogate pair
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, object]:
        """The JSON body."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status, kind)
        return {
            "type": "error",
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code},
            "detail": self.message,
            "message": self.message,
        }


def as_service_error(error: BaseException) -> ServiceError:
    """What a client is told of this error; nothing of what it must not know."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, BaseExceptionGroup):  # of calls that were made together
        return as_service_error(error.exceptions[0])
    if isinstance(error, errors.FairposError):
        for kind, status, code in _STATUS:
            if isinstance(error, kind):
                return ServiceError(status, code, str(error))
        return ServiceError(500, "model_failed", str(error))
    return ServiceError(500, "internal_error", "the service failed; its log has the reason under this request's id")
