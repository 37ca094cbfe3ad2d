"""The clock that stamps events, and the times that Kafka has stamped records with."""

import time

from schemas.instants import LATEST_US

_LATEST_MS = LATEST_US // 1000
EARLIEST_MS = 1_293_840_000_000
"""2011-01-01 UTC. There was no Kafka before, so an earlier time is one that a producer has made up,
such as 0, -1, or seconds in the place of milliseconds."""


def now_us() -> int:
    """Return the time in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def append_time_ms(timestamp_ms: int | None, latest_ms: int = _LATEST_MS) -> int:
    """Return when a record was appended, in milliseconds since 1970 UTC; 0 if that is unknown.

    A topic whose producers set the times, as Kafka's own default is, may have records without one,
    and with any number. A time before Kafka's first year is taken for unknown, too.

    Args:
        timestamp_ms: the record's timestamp in Kafka; -1 or None for none.
        latest_ms: the latest time that is believed.
    """
    if timestamp_ms is None or not EARLIEST_MS <= timestamp_ms <= latest_ms:
        return 0
    return timestamp_ms
