"""What the API server, or the way to it, answered. One class per thing a caller does about it."""


class ApiError(Exception):
    """Any refusal. `status` is the HTTP status, 0 when there was no answer; `reason` the API's word for it."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """There is no such object: look again, it may have been deleted."""


class Conflict(ApiError):
    """The object has changed, exists already, or belongs to another: read it again and decide anew."""


class Invalid(ApiError):
    """The object breaks its schema or a rule: repeating it does not help."""


class Forbidden(ApiError):
    """Not allowed, or a policy refused it: repeating it does not help."""


class Gone(ApiError):
    """A watch asked for a version that is no longer kept: list again."""


class Busy(ApiError):
    """The server asks to wait, or failed: repeat later."""


class Unreachable(ApiError):
    """No answer came: it may or may not have been done."""


def of_status(status: int, reason: str, message: str) -> ApiError:
    """The class of an HTTP status of 400 and above."""
    classes = {404: NotFound, 409: Conflict, 400: Invalid, 422: Invalid, 401: Forbidden, 403: Forbidden, 410: Gone}
    kind = classes.get(status, Busy if status in {408, 429} or status >= 500 else ApiError)  # noqa: PLR2004 - HTTP
    return kind(message, status=status, reason=reason)
