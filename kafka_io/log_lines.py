"""Log lines that no text of others can forge.

Names, messages and paths of clients and of records stand in log lines. A line break in one of them
would begin a line that looks like one of ours, and other control characters change what a terminal
shows. So each record is one line, with such characters escaped; the lines of a traceback are
indented, and no other line is.
"""

import copy
import logging
import re
from types import TracebackType

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, other line breaks, changes of direction, and what no encoding can write."""
_INDENT = "    "

_ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class LineFormatter(logging.Formatter):
    """Formats each log record as one line, and its traceback as indented lines."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as lines; what another formatter has made of its traceback is ignored."""
        own = copy.copy(record)
        own.exc_text = None
        return super().format(own)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # its name in logging
        """Return the line of a record."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802  # its name in logging
        """Return a traceback, whose last lines have the texts of errors."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  # its name in logging
        """Return a stack."""
        return _indented(super().formatStack(stack_info))


def configure_logging(level: str) -> None:
    """Log from a level on to the standard error, for a process."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler])


def escaped(text: str) -> str:
    """Return a text without characters that forge or damage a line."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _indented(text: str) -> str:
    # Only "\n" ends a line: another line break in a text does not begin one.
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))
