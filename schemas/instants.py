"""Conversions between microseconds since 1970 UTC and RFC 3339 text."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

EARLIEST_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST_US = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""A time outside has no date; most likely it is in nanoseconds instead of microseconds."""


@lru_cache(maxsize=4096)
def to_rfc3339(instant_us: int) -> str:
    """Return a time as UTC text, `2008-10-10T00:00:00Z`, with a fraction only if it has one."""
    # Cached, since records that arrive together have the same time in the log.
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat().replace("+00:00", "Z")


def to_date(instant_us: int) -> str:
    """Return the UTC date of a time: `2008-10-10`."""
    return (_EPOCH + timedelta(microseconds=instant_us)).date().isoformat()


def from_rfc3339(text: str) -> int:
    """Parse an RFC 3339 time, and return microseconds since 1970 UTC.

    Raises:
        ValueError: the text is no RFC 3339 time, or names no offset from UTC.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as in 2008-10-10T00:00:00Z")
    return from_datetime(instant)


def from_datetime(instant: datetime) -> int:
    """Return an aware datetime in microseconds since 1970 UTC."""
    return (instant - _EPOCH) // _MICROSECOND
