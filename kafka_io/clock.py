"""The clock that stamps events, and the times that Kafka has stamped records with."""

import time

from schemas.instants import LATEST_US

_LATEST_MS = LATEST_US // 1000


def now_us() -> int:
    """Return the time in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def append_time_ms(timestamp_ms: int | None, latest_ms: int = _LATEST_MS) -> int:
    """Return when a record was appended, in milliseconds since 1970 UTC; 0 if that is unknown.

    A topic whose producers set the times, as Kafka's own default is, may have records without one,
    and with any number.

    Args:
        timestamp_ms: the record's timestamp in Kafka; -1 or None for none.
        latest_ms: the latest time that is believed.
    """
    return timestamp_ms if timestamp_ms is not None and 0 < timestamp_ms <= latest_ms else 0
