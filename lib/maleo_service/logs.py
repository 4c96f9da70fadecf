"""Log format with one record per line, safe against log injection by untrusted text."""

import logging
import re
import sys
from types import TracebackType
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"

_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class OneLine(logging.Formatter):
    """Formatter that escapes control characters in messages and indents tracebacks: no text can forge a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the message with its control characters escaped."""
        return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), super().formatMessage(record))

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - logging's name
        """Return the traceback with every line indented."""
        return "\n".join(f"    {line}" for line in super().formatException(ei).splitlines())


def configure() -> None:
    """Log to standard error at level INFO and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
