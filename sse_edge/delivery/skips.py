"""Records that a node skips: each is counted once, and logged at a bounded rate.

The same record is rendered for several streams, and each time skipped. A stranger can write many
such records, and a log line about each would bury the others.
"""

import logging
import time
from collections import OrderedDict

from kafka_io.log_lines import about
from sse_edge.errors import Unframable
from sse_edge.log.record import Partition, Record

logger = logging.getLogger(__name__)

_LOGGED_EVERY_S = 10.0
"""The seconds between two lines about the same topic and reason."""
_REMEMBERED_MAX = 10_000


class Skips:
    """The skipped records of one node."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[Partition, int, str], None] = OrderedDict()
        self._logged_s: dict[tuple[str, str], float] = {}
        self._unlogged: dict[tuple[str, str], int] = {}

    def is_first(self, record: Record, reason: str) -> bool:
        """Return whether a record is skipped for the first time, as far as the node remembers."""
        key = (record.partition, record.offset, reason)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED_MAX:
            self._seen.popitem(last=False)
        return True

    def log(self, record: Record, error: Unframable) -> None:
        """Log a skipped record, unless there was a line about such a one a moment ago."""
        kind = (record.partition.topic, error.reason)
        now_s = time.monotonic()
        if now_s < self._logged_s.get(kind, float("-inf")) + _LOGGED_EVERY_S:
            self._unlogged[kind] = self._unlogged.get(kind, 0) + 1
            return
        self._logged_s[kind] = now_s
        unlogged = self._unlogged.pop(kind, 0)
        logger.warning(
            "skipping the record at offset %d of %s/%d (%s): %s%s",
            *(record.offset, *record.partition, error.reason, error),
            f"; {unlogged} others were skipped before it" if unlogged else "",
            exc_info=error.__cause__ if error.reason == "failed" else None,
            extra=about(*record.partition, record.offset),
        )
