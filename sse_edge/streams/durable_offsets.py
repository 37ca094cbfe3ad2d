"""Offsets of the Durable Streams protocol: opaque to clients, and sortable as texts.

    00000000000000004711_AXRg_WkwRn0O6ykGAQAAAAAA
    sum, 20 digits       cursor

The cursor is the position; the sum of its next offsets goes before it, in a fixed width. A reader's
offset in each partition never falls, and with each event one of them rises. So of two positions
that a reader passes the later one has the higher sum, and its text sorts after the other. Positions
of readers that have taken different ways through several partitions sort in an order that agrees
with each of these ways. A topic that is made anew begins at 0 again, and so do its offsets.

This module is pure.
"""

import re

from sse_edge.cursor import Cursor, CursorCodec
from sse_edge.errors import InvalidParameter

BEGINNING, NOW = "-1", "now"
"""The offsets that the protocol itself names."""
_OFFSET = re.compile(r"(\d{20})_([A-Za-z0-9_-]+)", re.ASCII)

EPOCH_S = 1_728_432_000
"""2024-10-09, from which intervals are counted."""
INTERVAL_S = 20
JITTER_S_MAX = 3_600
_CURSOR = re.compile(r"\d{1,15}", re.ASCII)


def offset_of(total: int, cursor: str) -> str:
    """Return the text of an offset.

    Args:
        total: the sum of the next offsets of all partitions.
        cursor: the position.
    """
    return f"{total:020d}_{cursor}"


def position_in(text: str, codec: CursorCodec) -> Cursor:
    """Return the position of an offset that is none of the two named ones.

    Raises:
        InvalidParameter: it is no offset.
        InvalidCursor: its cursor was altered, or belongs to another stream.
    """
    found = _OFFSET.fullmatch(text)
    if found is None:
        raise InvalidParameter(
            "offset",
            f"{text[:60]!r} is neither -1 nor now nor the Stream-Next-Offset of an answer",
        )
    cursor = codec.decode(found[2])
    total = sum(offset for topic in cursor.topics for _, offset in topic.offsets)
    if total != int(found[1]):
        raise InvalidParameter("offset", "its two halves do not belong together")
    return cursor


def stream_cursor(now_s: float, given: str, jitter_s: int) -> str:
    """Return the cursor by which caches tell live requests apart: the number of an interval.

    Args:
        now_s: the time, in seconds since 1970.
        given: the cursor that the client has sent; any other text counts as none.
        jitter_s: by how much a cursor of the present interval is advanced, 1 to 3,600 seconds.
    """
    current = max(0, int(now_s - EPOCH_S) // INTERVAL_S)
    known = int(given) if _CURSOR.fullmatch(given) else -1
    return str(current if known < current else known + max(1, jitter_s // INTERVAL_S))
