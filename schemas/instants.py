"""Instants in words: microseconds since 1970 UTC, and RFC 3339, either way."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

EARLIEST_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST_US = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""What lies outside has no name in words: nanoseconds, most likely, taken for microseconds."""


@lru_cache(maxsize=4096)
def to_rfc3339(instant_us: int) -> str:
    """Word an instant, in UTC: `2008-10-10T00:00:00Z`; fractions only where there are any."""
    # Cached, since the log stamps what came together alike.
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat().replace("+00:00", "Z")


def to_date(instant_us: int) -> str:
    """Word the UTC day of an instant: `2008-10-10`."""
    return (_EPOCH + timedelta(microseconds=instant_us)).date().isoformat()


def from_rfc3339(text: str) -> int:
    """Read an instant.

    Raises:
        ValueError: the text is no RFC 3339 time, or names no offset from UTC.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as in 2008-10-10T00:00:00Z")
    return from_datetime(instant)


def from_datetime(instant: datetime) -> int:
    """Read an aware datetime."""
    return (instant - _EPOCH) // _MICROSECOND
