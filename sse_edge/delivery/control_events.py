"""Blocks that speak of the stream itself: opening, heartbeat, gaps, errors. None carries an id.

Each function returns the bytes in the dialect of the stream; the time in them is the present.
"""

import random
from collections.abc import Mapping, Sequence

from kafka_io.clock import now_us
from schemas.instants import to_rfc3339
from sse_edge.delivery.start import Gap
from sse_edge.errors import UnavailableReason
from sse_edge.frame import block
from sse_edge.settings import EdgeSettings
from sse_edge.streams.dialect import ClientInfo, Dialect

_LATE_MS = 3_600_000
_PARTITIONS_MAX = 150
"""The most partitions in one gap event, which stays below 64 KiB with names of 249 characters."""

_MESSAGES = {
    UnavailableReason.NO_BROKER: "Kafka does not answer; reconnect a little later",
    UnavailableReason.FULL: "this node has no room for another stream; reconnect a little later",
    UnavailableReason.REFUSED: "Kafka does not take what the request writes",
    UnavailableReason.NO_KEYS: "the keys of the tokens' issuer cannot be read; reconnect later",
    UnavailableReason.DRAINING: "this node is shutting down; reconnect, and another node answers",
}


def retry_ms(settings: EdgeSettings) -> int:
    """Return when a client should reconnect: a random time, so that clients spread out."""
    return round(random.uniform(settings.retry_ms, 2 * settings.retry_ms))  # noqa: S311  # spreads load only


def late_retry_ms() -> int:
    """Return when a client should ask again for what does not change soon: in one to two hours."""
    return round(random.uniform(_LATE_MS, 2 * _LATE_MS))  # noqa: S311  # spreads load only


def opening(dialect: Dialect, client: ClientInfo, settings: EdgeSettings) -> bytes:
    """Return the first block; without an opening event it is only the start of a block."""
    return dialect.open(client, _now(), retry_ms(settings))


def heartbeat(dialect: Dialect, client: ClientInfo) -> bytes:
    """Return what keeps a silent connection open."""
    return dialect.beat(client, _now())


def notice(
    dialect: Dialect,
    client: ClientInfo,
    event: str,
    data: Mapping[str, object],
    *,
    retry_ms: int | None = None,
) -> bytes:
    """Return an event about the stream, with its data."""
    return block(*dialect.notice(client, event, data, _now()), retry_ms=retry_ms)


def unavailable(
    dialect: Dialect,
    client: ClientInfo,
    reason: UnavailableReason,
    settings: EdgeSettings,
    failure_id: str,
) -> bytes:
    """Return the error event of a stream that ends at once; the log has its id."""
    data = {"reason": reason, "message": _MESSAGES[reason], "id": failure_id}
    return notice(dialect, client, "error", data, retry_ms=retry_ms(settings))


def gap_events(
    dialect: Dialect, client: ClientInfo, gaps: Sequence[Gap], topic_prefix: str
) -> bytes:
    """Return gap events of one reason each, with the partitions and offsets that are missing."""
    by_reason: dict[str, list[dict[str, object]]] = {}
    for gap in gaps:
        by_reason.setdefault(gap.reason, []).append(
            {
                "topic": gap.partition.topic.removeprefix(topic_prefix),
                "partition": gap.partition.number,
                "from_offset": gap.from_offset,
                "to_offset": gap.to_offset,
            }
        )
    return b"".join(
        notice(
            dialect,
            client,
            "gap",
            {"reason": reason, "partitions": partitions[first : first + _PARTITIONS_MAX]},
        )
        for reason, partitions in by_reason.items()
        for first in range(0, len(partitions), _PARTITIONS_MAX)
    )


def _now() -> str:
    return to_rfc3339(now_us())
