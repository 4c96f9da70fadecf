"""Errors of the API server and of the connection to it, one class per reaction of the caller."""


class ApiError(Exception):
    """Base of all API errors. `status` is the HTTP status, 0 without an answer; `reason` is the API's reason."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """The object does not exist: look it up again, it may have been deleted."""


class Conflict(ApiError):
    """The object has changed, exists already, or has another owner: read it again and decide again."""


class Invalid(ApiError):
    """The object violates its schema or a validation rule: a retry does not help."""


class Forbidden(ApiError):
    """The request is not authenticated, not authorized, or denied by a policy: a retry does not help."""


class Gone(ApiError):
    """The resource version of a watch has expired: list again."""


class Busy(ApiError):
    """The server is throttling or failed: retry later."""


class Unreachable(ApiError):
    """No answer arrived: the request may or may not have been executed."""


def of_status(status: int, reason: str, message: str) -> ApiError:
    """Return the error for an HTTP status of 400 and above."""
    classes = {404: NotFound, 409: Conflict, 400: Invalid, 422: Invalid, 401: Forbidden, 403: Forbidden, 410: Gone}
    kind = classes.get(status, Busy if status in {408, 429} or status >= 500 else ApiError)  # noqa: PLR2004 - HTTP
    return kind(message, status=status, reason=reason)
