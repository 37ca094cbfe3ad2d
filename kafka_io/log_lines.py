"""Log lines that no text of others can forge.

Names, messages and paths of clients and of records stand in log lines. A line break in one of them
would begin a line that looks like one of ours, and other control characters change what a terminal
shows. So each record is one line, with such characters escaped; the lines of a traceback are
indented, and no other line is.

As JSON, each record is one object on one line. Its texts are escaped in the same way, so that they
stay harmless when a program prints them. A traceback is a text of several lines.
"""

import copy
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from opentelemetry import trace

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, other line breaks, changes of direction, and what no encoding can write."""
_INDENT = "    "
_ABOUT = ("topic", "partition", "offset")
"""The fields of a line about a record in Kafka."""

_REPEATS_S = 10.0
_REPEATS_MAX = 3
"""The most lines of a kind in that time."""
_KINDS_MAX = 1_000

LogFormat = Literal["text", "json"]
"""How lines are written."""

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


class JsonFormatter(logging.Formatter):
    """Formats each log record as one JSON object on one line.

    It has `time` (RFC 3339, UTC), `level`, `logger` and `message`; within a span `trace_id` and
    `span_id`; for a line about a record in Kafka `topic`, `partition` and `offset`; and after an
    error `exception`, the traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        created = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line: dict[str, object] = {
            "time": created.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": escaped(record.getMessage()),
        }
        at = trace.get_current_span().get_span_context()
        if at.is_valid:
            line |= {"trace_id": f"{at.trace_id:032x}", "span_id": f"{at.span_id:016x}"}
        for name in _ABOUT:
            value: object = getattr(record, name, None)
            if value is not None:
                # The logger may be a library's, whose fields of these names hold anything.
                line[name] = value if isinstance(value, int) else escaped(str(value))
        if record.exc_info:
            line["exception"] = _escaped_lines(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = _escaped_lines(record.stack_info)
        return json.dumps(line)


class FewRepeats(logging.Filter):
    """Lets few lines of one kind of aiokafka pass, and counts the others.

    While a broker is away, aiokafka logs each attempt to reach it, several times a second in each
    part. Every few seconds a line passes, with the number of those before it that did not.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Let all pass at first.

        Args:
            now_s: returns the present time in seconds.
        """
        super().__init__()
        self._now_s = now_s
        self._kinds: dict[tuple[str, str], _Repeats] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is logged; one that follows others that were not says so."""
        if not record.name.startswith("aiokafka"):
            return True
        if len(self._kinds) >= _KINDS_MAX:
            self._kinds.clear()
        now_s = self._now_s()
        # A line of a kind has its own arguments, but the same text before they are put in.
        repeats = self._kinds.setdefault((record.name, str(record.msg)), _Repeats(now_s))
        left_out = 0
        if now_s >= repeats.since_s + _REPEATS_S:
            left_out = repeats.lines - _REPEATS_MAX
            repeats.since_s, repeats.lines = now_s, 0
        repeats.lines += 1
        if left_out > 0:
            record.msg = f"{record.getMessage()} ({left_out} more such lines were not logged)"
            record.args = ()
        return repeats.lines <= _REPEATS_MAX


@dataclass(slots=True)
class _Repeats:
    """The lines of one kind since a time."""

    since_s: float
    lines: int = 0


def configure_logging(level: str, log_format: LogFormat = "text") -> None:
    """Log from a level on to the standard error, for a process."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else LineFormatter())
    handler.addFilter(FewRepeats())
    logging.basicConfig(level=level, handlers=[handler])


def about(topic: str, partition: int, offset: int | None = None) -> dict[str, object]:
    """Return the `extra` of a line about a record, or about a partition if it names no offset."""
    return {"topic": topic, "partition": partition, "offset": offset}


def escaped(text: str) -> str:
    """Return a text without characters that forge or damage a line."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _escaped_lines(text: str) -> str:
    return "\n".join(escaped(line) for line in text.split("\n"))


def _indented(text: str) -> str:
    # Only "\n" ends a line: another line break in a text does not begin one.
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))
